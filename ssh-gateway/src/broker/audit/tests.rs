use super::*;

#[test]
fn a_command_that_is_too_long_to_be_told_can_be_proved() {
    let told = |length: usize| told_program(&Program::Command(vec![b'x'; length]));
    assert_eq!(told(COMMAND_BYTES_MAX), format!("command {}", "x".repeat(COMMAND_BYTES_MAX)));
    let long = [": ".repeat(COMMAND_BYTES_MAX).as_bytes(), b"; rm -r /"].concat();
    let said = told_program(&Program::Command(long.clone()));
    let end = format!("... ({} bytes, sha256 {})", long.len(), hash(&long));
    assert!(said.ends_with(&end), "{said}");
    assert_eq!(said.len(), "command ".len() + COMMAND_BYTES_MAX + end.len());
}
