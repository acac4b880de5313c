use super::*;

#[test]
fn our_own_limits_are_read_as_the_kernel_has_them() {
    let text = std::fs::read_to_string("/proc/self/limits").unwrap();
    let limits = parse(&text);
    assert_eq!(limits.len(), NAMES.len());
    for limit in limits {
        let expected = sys::limit(limit.resource).unwrap();
        assert_eq!((limit.soft, limit.hard), expected, "{}", name(limit.resource));
    }
}

#[test]
fn the_specification_wins_and_nothing_may_be_missing() {
    let first: Vec<_> = (0..16).map(|resource| Limit { resource, soft: 1, hard: 2 }).collect();
    let planned = plan(&[(7, 10, 20)], &first).unwrap();
    assert_eq!(planned.len(), 16);
    assert_eq!(planned[7], Limit { resource: 7, soft: 10, hard: 20 });
    assert_eq!(planned[6], Limit { resource: 6, soft: 1, hard: 2 });
    assert_eq!(plan(&[(7, 10, 20)], &first[..15]).unwrap_err().kind, FailureKind::Confinement);
}
