use std::cell::Cell;

use super::*;

const QUICK: Retry =
    Retry { attempts: 3, base: Duration::from_millis(1), cap: Duration::from_millis(2) };

#[test]
fn large_transfers_are_given_more_time() {
    assert_eq!(attempt_time(0), Duration::from_secs(60));
    assert_eq!(attempt_time(64 * 1024 * 1024), Duration::from_secs(60 + 1024));
}

#[tokio::test]
async fn what_may_pass_is_tried_as_often_as_said_and_counted() {
    let tried = Cell::new(0);
    let failed = attempts(QUICK, "a", 0, async || {
        tried.set(tried.get() + 1);
        Err::<(), _>(Fault::temporary("it is away"))
    });
    let fault = failed.await.unwrap_err();
    assert_eq!((tried.get(), fault.reason.as_str()), (3, "it is away (3 attempts)"));
    assert_eq!(fault.kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn what_will_not_pass_is_not_tried_again() {
    let tried = Cell::new(0);
    let failed = attempts(QUICK, "a", 0, async || {
        tried.set(tried.get() + 1);
        Err::<(), _>(Fault::corrupt("it is short"))
    });
    let fault = failed.await.unwrap_err();
    assert_eq!((tried.get(), fault.reason.as_str()), (1, "it is short"));
}
