use super::*;

#[test]
fn what_passes_is_waited_for_and_nothing_else() {
    for (code, expected) in [
        (28, Some(Pressure::DiskFull)),
        (122, Some(Pressure::DiskFull)),
        (24, Some(Pressure::Descriptors)),
        (23, Some(Pressure::Descriptors)),
        (5, None),
        (13, None),
        (30, None),
    ] {
        assert_eq!(pressure_of(&io::Error::from_raw_os_error(code)), expected, "{code}");
    }
}
