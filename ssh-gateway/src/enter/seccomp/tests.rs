use super::*;

fn instruction(code: u16, value: u32) -> Vec<u8> {
    let mut bytes = code.to_ne_bytes().to_vec();
    bytes.extend([0, 0]);
    bytes.extend(value.to_ne_bytes());
    bytes
}

#[test]
fn filters_that_need_a_supervisor_or_compute_are_refused() {
    let allow = instruction(RETURN_CONSTANT, 0x7fff_0000);
    let errno = instruction(RETURN_CONSTANT, 0x0005_0026);
    assert!(check(&[]).is_ok());
    assert!(check(&[allow.clone(), errno].concat()).is_ok());
    for bad in [
        [allow.clone(), instruction(RETURN_CONSTANT, USER_NOTIFICATION)].concat(),
        [allow.clone(), instruction(RETURN_CONSTANT, USER_NOTIFICATION | 7)].concat(),
        [allow.clone(), instruction(RETURN_ACCUMULATOR, 0)].concat(),
        allow[..7].to_vec(),
        allow.repeat(INSTRUCTIONS_MAX + 1),
    ] {
        assert_eq!(check(&bad).unwrap_err().kind, FailureKind::Confinement);
    }
}

#[test]
fn the_filter_of_the_supervisor_is_one_that_can_be_installed() {
    let program = of_supervisor().unwrap();
    let bytes = bytes(&program);
    assert_eq!(bytes.len(), program.len() * INSTRUCTION_BYTES);
    check(&bytes).unwrap();
}
