use super::*;

fn answer(status: u16) -> Answer {
    Answer {
        status,
        sentence: format!("http://x answered {status}"),
        retry_after: Some(Duration::from_secs(7)),
        body: Vec::new(),
    }
}

#[test]
fn only_what_is_said_of_the_content_is_final() {
    for status in [200, 202, 204] {
        assert_eq!(judge(answer(status)), Outcome::Accepted);
    }
    for status in [400, 413, 415, 422] {
        assert!(matches!(judge(answer(status)), Outcome::Refused { .. }), "{status}");
    }
    let wanted = Some(Duration::from_secs(7));
    for (status, is_own) in [
        (401, false),
        (403, false),
        (404, false),
        (408, false),
        (429, false),
        (500, true),
        (502, false),
        (503, false),
        (504, false),
    ] {
        let Outcome::Later { after, may_be_its_own, .. } = judge(answer(status)) else {
            panic!("{status} has another time")
        };
        assert_eq!((after, may_be_its_own), (wanted, is_own), "{status}");
    }
    let Outcome::Later { sentence, .. } = judge(answer(301)) else {
        panic!("a redirect is no end")
    };
    assert!(sentence.contains("write the URL that it leads to"), "{sentence}");
}
