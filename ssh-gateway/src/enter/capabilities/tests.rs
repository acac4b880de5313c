use super::*;

#[test]
fn a_program_without_exec_has_what_exec_would_have_left() {
    let sets = CapabilitySets {
        bounding: 0b111,
        effective: 0b11,
        inheritable: 0,
        permitted: 0b11,
        ambient: 0,
    };
    let of = |permitted| CapabilitySets { permitted, effective: permitted, ..sets };
    assert_eq!(after_exec(&sets, true, false), of(0b111));
    assert_eq!(after_exec(&sets, true, true), of(0b011));
    assert_eq!(after_exec(&sets, false, false), of(0));
    let ambient = CapabilitySets { ambient: 0b10, inheritable: 0b10, ..sets };
    assert_eq!(after_exec(&ambient, false, false).effective, 0b10);
}

#[test]
fn what_the_gateway_lacks_is_named() {
    let wanted = CapabilitySets { bounding: 1 << 62, ..CapabilitySets::default() };
    let failure = check_held(&wanted).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotNative);
    assert!(failure.reason.contains("capability 62"), "{}", failure.reason);
}
