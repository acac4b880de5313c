use super::*;
use crate::ui::query::Asked;

fn client(query: &str) -> Client {
    Client::new(Asked::parse(query, 0).unwrap().query)
}

fn taken(client: &Client) -> String {
    String::from_utf8(client.take().to_vec()).unwrap()
}

#[test]
fn records_are_sent_together_and_in_order() {
    let client = client("");
    client.say(Item::Ready);
    client.push(&Arc::new(b"{\"n\":1}".to_vec()));
    client.push(&Arc::new(b"{\"n\":2}".to_vec()));
    client.say(Item::Skipped(3));
    client.say(Item::Skipped(4));
    client.push(&Arc::new(b"{\"n\":3}".to_vec()));
    assert_eq!(
        taken(&client),
        "event: ready\ndata: {}\n\n\
         event: lines\ndata: [{\"n\":1},{\"n\":2}]\n\n\
         event: skipped\ndata: 7\n\n\
         event: lines\ndata: [{\"n\":3}]\n\n"
    );
    assert_eq!(taken(&client), "");
}

#[test]
fn what_a_slow_browser_does_not_take_is_counted_where_it_is_missing() {
    let client = client("");
    let record = Arc::new(format!("\"{}\"", "x".repeat(998)).into_bytes());
    let room = QUEUE_BYTES_MAX / record.len();
    for _ in 0..room + 500 {
        client.push(&record);
    }
    assert!(client.queue().bytes <= QUEUE_BYTES_MAX);
    let mut all = String::new();
    loop {
        let chunk = taken(&client);
        assert!(chunk.len() <= CHUNK_BYTES + 2 * record.len(), "{}", chunk.len());
        if chunk.is_empty() {
            break;
        }
        all.push_str(&chunk);
    }
    assert_eq!(all.matches("\"x").count(), room);
    assert!(all.ends_with("event: skipped\ndata: 500\n\n"));
    assert_eq!(client.queue().bytes, 0);
}

#[test]
fn trouble_is_told_once() {
    let client = client("");
    for _ in 0..100 {
        client.say(Item::Trouble("it\nis \"gone\"".to_owned()));
    }
    assert_eq!(taken(&client), "event: trouble\ndata: \"it\\nis \\\"gone\\\"\"\n\n");
}

#[test]
fn there_are_so_many_seats_and_they_are_given_back() {
    let live = Arc::new(Live::default());
    let query = || Asked::parse("", 0).unwrap().query;
    let seats: Vec<_> = (0..CLIENTS_MAX).map(|_| live.join(query()).unwrap()).collect();
    assert!(live.join(query()).is_none());
    let Looking { clients, joined } = live.wait(false).unwrap();
    assert_eq!((clients.len(), joined.len()), (CLIENTS_MAX, CLIENTS_MAX));
    drop(seats);
    assert!(live.join(query()).is_some());
    // Whatever is open for nobody is closed, once.
    assert!(live.wait(true).unwrap().clients.is_empty());
    live.end();
    assert!(live.wait(false).is_none());
}
