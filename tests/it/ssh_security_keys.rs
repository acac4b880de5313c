//! Keys in devices (`sk-…`): OpenSSH's own client signs with one that is in software, see `testdata/ssh/authenticator.c`.

use std::path::{Path, PathBuf};

use e2e::process::Run;
use e2e::sandbox::Sandbox;
use e2e::ssh_gateway::{MAIN_KEY, program};

use crate::ssh::{ANSWER_TIME_MAX, Scene};

/// Exit status of OpenSSH's client when there was no session.
const SSH_FAILED: i32 = 255;

const KINDS: [&str; 2] = ["ed25519-sk", "ecdsa-sk"];

/// What rules may demand of keys, as they say it.
const DEMANDS: [&str; 3] = ["", "require = ['touch']", "require = ['pin']"];

/// A key of a device.
struct Device {
    name: &'static str,
    /// In front of its line of `authorized_keys`.
    options: &'static str,
    /// As `ssh-keygen -O` makes it.
    made: &'static [&'static str],
    /// Whether it comes in by a rule with each of `DEMANDS`.
    comes_in: [bool; 3],
}

/// A key is touched unless it was made without, and unlocked where it was made so.
const DEVICES: [Device; 12] = [
    Device { name: "touched", options: "", made: &[], comes_in: [true, true, false] },
    Device {
        name: "other-application",
        options: "",
        made: &["application=ssh:work"],
        comes_in: [true, true, false],
    },
    Device {
        name: "unlocked",
        options: "",
        made: &["verify-required"],
        comes_in: [true, true, true],
    },
    Device {
        name: "untouched",
        options: "no-touch-required",
        made: &["no-touch-required"],
        comes_in: [true, false, false],
    },
    Device {
        name: "unlocked-untouched",
        options: "no-touch-required",
        made: &["no-touch-required", "verify-required"],
        comes_in: [true, false, true],
    },
    // What the line demands, whatever the rule does.
    Device {
        name: "wants-touch",
        options: "",
        made: &["no-touch-required", "verify-required"],
        comes_in: [false, false, false],
    },
    Device {
        name: "wants-pin",
        options: "verify-required",
        made: &[],
        comes_in: [false, false, false],
    },
    Device {
        name: "has-pin",
        options: "verify-required",
        made: &["verify-required"],
        comes_in: [true, true, true],
    },
    // What they say is not what they have signed.
    Device {
        name: "signs-for-another-application",
        options: "no-touch-required",
        made: &["user=application"],
        comes_in: [false, false, false],
    },
    Device {
        name: "says-another-counter",
        options: "no-touch-required",
        made: &["user=counter"],
        comes_in: [false, false, false],
    },
    Device {
        name: "feigns-touch",
        options: "no-touch-required",
        made: &["no-touch-required", "user=touch"],
        comes_in: [false, false, false],
    },
    Device {
        name: "feigns-pin",
        options: "no-touch-required",
        made: &["user=pin"],
        comes_in: [false, false, false],
    },
];

/// Compiles what OpenSSH loads to speak with a device.
fn authenticator(sandbox: &Sandbox) -> Option<PathBuf> {
    let compiler = program("cc", "gcc")?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ssh/authenticator.c");
    let library = sandbox.path("authenticator.so");
    let run = Run::new(compiler).args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"]);
    run.arg(&library).arg(source).succeed();
    Some(library)
}

#[test]
fn security_keys_come_in_with_the_touch_and_the_pin_that_rules_and_lines_demand() {
    let sandbox = Sandbox::new();
    let Some(library) = authenticator(&sandbox) else { return };
    let library = library.display().to_string();
    for (at, demand) in DEMANDS.into_iter().enumerate() {
        let rules = format!(
            "[[rule]]\nname = 'r'\nwho = ['*']\ncontainers = ['*']\nusers = ['*']\nallow = ['exec']\n{demand}\n"
        );
        let keys = || {
            KINDS.into_iter().flat_map(|kind| {
                DEVICES.iter().map(move |device| (kind, device, format!("{}-{kind}", device.name)))
            })
        };
        let Some(scene) = Scene::new(
            |spec| spec,
            |setup| {
                let setup = keys().fold(setup, |setup, (kind, device, name)| {
                    let mut words = vec!["-t", kind, "-w", &library];
                    words.extend(device.made.iter().flat_map(|option| ["-O", option]));
                    setup.key_made_by(&name, device.options, &words)
                });
                setup.policy(&rules)
            },
        ) else {
            return;
        };
        let provider = format!("SecurityKeyProvider={library}");
        let judge = |name: &str, comes_in: bool| {
            let run = scene.gateway.ssh_as(name, scene.container.name());
            let said = run.args(["-o", &provider, "echo in"]).deadline(ANSWER_TIME_MAX).finish();
            let wanted = if comes_in { (Some(0), "in\n") } else { (Some(SSH_FAILED), "") };
            let got = (said.code(), said.stdout_text());
            assert_eq!((got.0, got.1.as_str()), wanted, "{demand} {name}: {said}");
            if !comes_in {
                // By the gateway, and not because the client could not sign.
                assert!(said.stderr_text().contains("Permission denied (publickey)"), "{said}");
                assert!(!said.stderr_text().contains("sign"), "{said}");
            }
        };
        for (_, device, name) in keys() {
            judge(&name, device.comes_in[at]);
        }
        // Others than those of devices.
        judge(MAIN_KEY, demand.is_empty());
        scene.gateway.assert_idle(&[&scene.container]);
    }
}
