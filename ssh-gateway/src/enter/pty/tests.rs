use super::*;

fn terminal(modes: &[(u8, u32)]) -> Terminal {
    Terminal {
        term: "xterm".to_owned(),
        size: WindowSize { columns: 100, rows: 40, width: 800, height: 600 },
        modes: modes.to_vec(),
    }
}

/// A terminal of the machine the tests run on; `None` where there is no devpts.
fn opened(modes: &[(u8, u32)]) -> Option<Pty> {
    match Pty::open(&terminal(modes), rustix::process::getuid().as_raw()) {
        Ok(pty) => Some(pty),
        Err(failure) => {
            println!("skipped: {}", failure.reason);
            None
        }
    }
}

#[test]
fn a_terminal_is_as_the_client_says() {
    let asked = [(1, 7), (3, 255), (53, 0), (42, 1), (128, 9600), (129, 9600), (72, 0), (250, 9)];
    let Some(pty) = opened(&asked) else { return };
    let modes = tcgetattr(&pty.slave).unwrap();
    assert_eq!(modes.special_codes[SpecialCodeIndex::VINTR], 7);
    assert_eq!(modes.special_codes[SpecialCodeIndex::VERASE], 0);
    assert!(!modes.local_modes.contains(LocalModes::ECHO));
    assert!(modes.local_modes.contains(LocalModes::ICANON));
    assert!(modes.input_modes.contains(InputModes::IUTF8));
    assert!(!modes.output_modes.contains(OutputModes::ONLCR));
    assert_eq!((modes.input_speed(), modes.output_speed()), (9600, 9600));
    let size = rustix::termios::tcgetwinsize(&pty.slave).unwrap();
    assert_eq!((size.ws_col, size.ws_row, size.ws_xpixel, size.ws_ypixel), (100, 40, 800, 600));
    assert!(pty.path.to_str().unwrap().starts_with("/dev/pts/"));
}

#[test]
fn no_modes_of_a_client_break_a_terminal() {
    let every: Vec<_> = (0..=255).flat_map(|opcode| [(opcode, 0), (opcode, u32::MAX)]).collect();
    let Some(_pty) = opened(&every) else { return };
    let reversed: Vec<_> = every.into_iter().rev().collect();
    let Some(pty) = opened(&reversed) else { return };
    assert!(rustix::termios::isatty(&pty.slave));
}
