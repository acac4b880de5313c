use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::notify::event::Kind;

fn notice(number: usize) -> Notice {
    notice_at(number, Timestamp::now())
}

fn notice_at(number: usize, time: Timestamp) -> Notice {
    let event = Event {
        time,
        host: "h".to_owned(),
        job: format!("job {number}"),
        kind: Kind::Overdue,
        text: "t".to_owned(),
        details: BTreeMap::new(),
    };
    Notice { id: number.to_string(), event }
}

fn ids(queue: &Queue) -> Vec<&str> {
    queue.notices.iter().map(|notice| notice.id.as_str()).collect()
}

#[test]
fn the_oldest_goes_for_a_new_one_and_is_counted_until_that_was_told() {
    let mut queue = Queue::default();
    let dropped: u64 = (0..NOTICES_MAX + 3).map(|number| queue.push(notice(number))).sum();
    assert_eq!((dropped, queue.len(), queue.lost()), (3, NOTICES_MAX, 3));
    assert_eq!(queue.first().unwrap().id, "3");
    queue.push(notice(1000));
    queue.accepted("4", 3);
    assert_eq!((queue.lost(), queue.len()), (1, NOTICES_MAX - 1));
    queue.refused("5");
    queue.refused("5");
    assert_eq!(queue.lost(), 2);
}

#[test]
fn a_job_that_fails_again_and_again_does_not_push_out_others() {
    let mut queue = Queue::default();
    for number in 0..NOTICES_MAX {
        queue.push(notice(number));
    }
    for number in 0..50 {
        let mut again = notice(7);
        again.id = format!("again {number}");
        queue.push(again);
    }
    assert_eq!((queue.len(), queue.lost()), (NOTICES_MAX, 50));
    assert_eq!(queue.first().unwrap().id, "0");
    assert_eq!(ids(&queue).last(), Some(&"again 49"));
}

#[test]
fn what_is_too_old_is_dropped_and_a_clock_that_was_set_back_drops_nothing() {
    let now: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
    let mut queue = Queue::default();
    queue.push(notice_at(1, "2026-11-27T11:59:59Z".parse().unwrap()));
    queue.push(notice_at(2, "2026-11-27T12:00:00Z".parse().unwrap()));
    queue.push(notice_at(3, "2027-11-27T12:00:00Z".parse().unwrap()));
    assert_eq!(queue.expire(now), 1);
    assert_eq!((ids(&queue), queue.lost()), (vec!["2", "3"], 1));
}

#[test]
fn only_the_first_is_put_behind_the_others() {
    let mut queue = Queue::default();
    for number in 0..3 {
        queue.push(notice(number));
    }
    queue.postpone("1");
    assert_eq!(ids(&queue), ["0", "1", "2"]);
    queue.postpone("0");
    assert_eq!(ids(&queue), ["1", "2", "0"]);
}

#[test]
fn a_queue_comes_back_from_its_file_which_is_its_owners_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("slack.json");
    let mut queue = Queue::load(&path).unwrap();
    assert_eq!(queue, Queue::default());
    queue.push(notice(1));
    queue.save(&path).unwrap();
    assert_eq!(Queue::load(&path).unwrap(), queue);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn other_files_are_no_queues() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("slack.json");
    for text in ["", "[]", "{\"format\":1}", "{\"lost\":0,\"notices\":[]}"] {
        fs::write(&path, text).unwrap();
        assert!(matches!(Queue::load(&path), Err(QueueFault::Damaged(_))), "{text}");
    }
    fs::write(&path, "{\"format\":2,\"anything\":true}").unwrap();
    let fault = Queue::load(&path).unwrap_err().to_string();
    assert!(fault.starts_with("it has the format 2, this program knows 1"), "{fault}");
}

#[test]
fn what_others_wrote_into_the_file_is_made_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("slack.json");
    let mut queue = Queue::default();
    let mut hostile = notice(1);
    hostile.event.job = "a\r\nBcc: all@example.org".to_owned();
    queue.push(hostile);
    queue.save(&path).unwrap();
    assert_eq!(Queue::load(&path).unwrap().first().unwrap().event.job, "a  Bcc: all@example.org");
}
