use super::*;

/// What is told of the calling thread: niceness and policy, execution domain, timer slack.
fn told() -> (String, String, u64) {
    let file = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/{name}")).unwrap();
    let stat = file("stat");
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (
        format!("nice {} policy {}", fields[16], fields[38]),
        file("personality").trim().to_owned(),
        rustix::thread::current_timer_slack().unwrap(),
    )
}

#[test]
fn nothing_of_how_the_gateway_runs_is_left() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root may become less nice");
        return;
    }
    // All of this is a thread's own.
    let thread = std::thread::spawn(|| {
        setpriority_process(None, 7).unwrap();
        set_current_timer_slack(std::num::NonZeroU64::new(1)).unwrap();
        assert_eq!(told().0, "nice 7 policy 0");
        reset().unwrap();
        told()
    });
    let (scheduling, personality, slack) = thread.join().unwrap();
    assert_eq!(scheduling, "nice 0 policy 0");
    assert_eq!(personality, "00000000");
    assert_eq!(slack, TIMER_SLACK);
}
