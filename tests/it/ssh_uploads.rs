//! Finished records go to a store, whatever becomes of it meanwhile.

use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::object_store::ObjectStore;
use e2e::process::Run;
use e2e::relay::{Mode, Relay};
use e2e::ssh_gateway::wait_until;
use serde_json::Value;

use crate::ssh::{ANSWER_TIME_MAX, BINARY, Scene};

/// Looks, tries of the store and the pauses between them, on a machine that builds at the same time.
const UPLOAD_TIME_MAX: Duration = Duration::from_secs(180);

fn state_of_uploads(state: &Path) -> Option<Value> {
    let text = std::fs::read(state.join("uploads/state.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

fn audit(state: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(state.join("audit/audit-00000001.jsonl"));
    let text = text.unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn last(state: &Path, event: &str) -> Option<Value> {
    audit(state).into_iter().rfind(|line| line["event"] == event)
}

#[test]
fn finished_recordings_are_in_the_store_after_an_outage_and_go_only_then() {
    let store = ObjectStore::in_process();
    let address = store.address().clone();
    let port = address.endpoint.rsplit(':').next().and_then(|port| port.parse().ok());
    let relay = Relay::to(port.expect("a port"));
    relay.set(Mode::Away);
    let config = format!(
        "[record]\nsessions = 'output'\nupload = '{}'\nkeep_local = false\n",
        address.url("gateway/one")
    );
    let Some(scene) = Scene::new(
        |spec| spec,
        |mut setup| {
            for (name, value) in address.env() {
                setup = setup.env(&name, &value);
            }
            let endpoint = format!("http://127.0.0.1:{}", relay.port());
            setup.env("AWS_ENDPOINT_URL_S3", &endpoint).config(&config)
        },
    ) else {
        return;
    };
    let state = scene.gateway.sandbox().path("state");
    let said = scene.ssh().args(["-tt", "echo recorded"]).deadline(ANSWER_TIME_MAX).finish();
    assert_eq!(said.code(), Some(0), "{said}");
    wait_until(UPLOAD_TIME_MAX, "a try in vain", || {
        let told = state_of_uploads(&state);
        let is_told = told.as_ref().is_some_and(|told| told["failed"].is_string());
        if is_told { Ok(()) } else { Err(format!("{told:?}")) }
    });
    let recording = last(&state, "recording").expect("a recording");
    let file = recording["file"].as_str().expect("a file");
    let here = state.join("recordings").join(file);
    let whole = std::fs::read(&here).expect("the recording stays while the store is away");
    relay.set(Mode::Pass);
    wait_until(UPLOAD_TIME_MAX, "the end of the recording here", || {
        if here.exists() { Err(format!("{:?}", state_of_uploads(&state))) } else { Ok(()) }
    });
    let there: PathBuf = store.files().expect("files").join("gateway/one/recordings").join(file);
    assert!(std::fs::read(&there).expect("the recording is in the store") == whole);
    let upload = last(&state, "upload").expect("an upload in the audit");
    assert_eq!(upload["sha256"], recording["sha256"]);
    assert_eq!(upload["removed"], true);
    // Nobody has taken it away in secret.
    let verify = Run::new(BINARY).args(["audit", "verify", "--recordings", "--state"]).arg(&state);
    let verified = verify.finish();
    assert_eq!(verified.code(), Some(0), "{verified}");
    assert!(verified.stdout_text().contains("1 recordings are not here"), "{verified}");
    // What holds the credentials runs as nobody, without a capability.
    let uploader = scene.gateway.processes().into_iter().find_map(|id| {
        let words = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
        let is_it = words.windows(8).any(|word| word == b"uploader");
        is_it.then(|| std::fs::read_to_string(format!("/proc/{id}/status")).ok()).flatten()
    });
    let uploader = uploader.expect("an uploader");
    for line in ["Uid:\t65534\t65534\t65534\t65534", "CapEff:\t0000000000000000", "Seccomp:\t2"] {
        assert!(uploader.contains(line), "{line}: {uploader}");
    }
    scene.gateway.assert_idle(&[&scene.container]);
}
