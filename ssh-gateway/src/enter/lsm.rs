//! Labels of security modules for the program: AppArmor profiles and SELinux contexts.
//!
//! A label is set before the mount namespace's `/proc` could matter, through our own `/proc`, and takes effect at
//! the next exec; it survives fork. Never run with either module so far: no machine with one was at hand.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::step::{OrFail as _, Step, failure, kernel_file, write_kernel_file};
use crate::wire::task::{Confinement, FailureKind};

/// Where AppArmor says that it is in force.
const APPARMOR_ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
/// Attributes of AppArmor: of its own, and, before Linux 5.8, those it shared.
const APPARMOR_EXEC: [&str; 2] = ["self/attr/apparmor/exec", "self/attr/exec"];

/// A label that was asked for and that the kernel can give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label {
    /// An AppArmor profile.
    AppArmor(String),
    /// An SELinux context.
    SeLinux(String),
}

/// Labels of a container that this kernel knows.
pub fn labels(confinement: &Confinement, proc: &OwnedFd) -> Step<Vec<Label>> {
    let mut labels = Vec::new();
    if let Some(profile) = confinement.apparmor.as_ref().filter(|profile| !profile.is_empty())
        && std::fs::read(APPARMOR_ENABLED).is_ok_and(|text| text.starts_with(b"Y"))
    {
        labels.push(Label::AppArmor(profile.clone()));
    }
    if let Some(context) = confinement.selinux.as_ref().filter(|context| !context.is_empty())
        && kernel_file(proc, "filesystems").is_ok_and(|text| text.contains("selinuxfs"))
    {
        labels.push(Label::SeLinux(context.clone()));
    }
    for Label::AppArmor(text) | Label::SeLinux(text) in &labels {
        if text.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(failure(FailureKind::Confinement, "a security label that cannot be"));
        }
    }
    Ok(labels)
}

/// Sets the labels for the next exec of the calling process, and reads them back.
pub fn set_for_exec(labels: &[Label], proc: &OwnedFd) -> Step<()> {
    for label in labels {
        match label {
            Label::AppArmor(profile) => set_apparmor(profile, proc)?,
            Label::SeLinux(context) => set_selinux(context, proc)?,
        }
    }
    Ok(())
}

fn set_apparmor(profile: &str, proc: &OwnedFd) -> Step<()> {
    let what = format!("the AppArmor profile {profile}");
    let mut written = Err(std::io::ErrorKind::NotFound.into());
    for path in APPARMOR_EXEC {
        written = write_kernel_file(proc, path, &format!("exec {profile}"));
        if written.is_ok() {
            let set = kernel_file(proc, path).or_fail(FailureKind::Confinement, &what)?;
            return check(&set, profile, &what);
        }
    }
    written.or_fail(FailureKind::Confinement, what)
}

fn set_selinux(context: &str, proc: &OwnedFd) -> Step<()> {
    let what = format!("the SELinux context {context}");
    // Keys that the program makes are labelled like it.
    write_kernel_file(proc, "self/attr/keycreate", context)
        .and_then(|()| write_kernel_file(proc, "self/attr/exec", context))
        .or_fail(FailureKind::Confinement, &what)?;
    let set = kernel_file(proc, "self/attr/exec").or_fail(FailureKind::Confinement, &what)?;
    check(&set, context, &what)
}

fn check(set: &str, expected: &str, what: &str) -> Step<()> {
    if is_label(set, expected) {
        Ok(())
    } else {
        Err(failure(FailureKind::Confinement, format!("{what} is not taken")))
    }
}

/// Gives the calling process its label now, for our own programs, which do not exec. It must be root of the
/// container still.
pub fn become_labelled(labels: &[Label]) -> Step<()> {
    // AppArmor and SELinux together are not stacked by any runtime.
    let label = match labels {
        [] => return Ok(()),
        [label] => label,
        _ => return Err(failure(FailureKind::Confinement, "more than one security label")),
    };
    let (text, shown, paths): (_, _, &[&str]) = match label {
        Label::AppArmor(profile) => (
            format!("changeprofile {profile}"),
            profile,
            &["thread-self/attr/apparmor/current", "thread-self/attr/current"],
        ),
        Label::SeLinux(context) => (context.clone(), context, &["thread-self/attr/current"]),
    };
    let what = format!("the security label {shown}");
    let proc = proc_of_processes().or_fail(FailureKind::Confinement, &what)?;
    let opened = paths.iter().find_map(|path| {
        openat(&proc, *path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok()
    });
    let nothing = || failure(FailureKind::Confinement, format!("{what} cannot be taken on"));
    rustix::io::write(&opened.ok_or_else(nothing)?, text.as_bytes())
        .map_err(std::io::Error::from)
        .or_fail(FailureKind::Confinement, what)?;
    Ok(())
}

/// A `/proc` of the calling process's pid namespace that nothing is mounted over, with the processes in it and
/// nothing else (`subset=pid`, Linux 5.8): who may trace this process can reach what is open in it, and through
/// the host's own `/proc`, or `/proc/sys`, would leave the container.
fn proc_of_processes() -> std::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "subset", "pid")?;
    fsconfig_create(&context)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
}

/// Whether an attribute says this label, with or without AppArmor's mode behind it.
#[must_use]
pub fn is_label(attribute: &str, expected: &str) -> bool {
    let attribute = attribute.trim_end_matches(['\n', '\0']);
    match attribute.strip_prefix(expected) {
        Some(rest) => rest.is_empty() || (rest.starts_with(" (") && rest.ends_with(')')),
        None => false,
    }
}

/// Fails when a process that has executed its program does not have these labels. `process` is its directory in
/// `/proc`, opened while it was known to be the one.
pub fn check_current(labels: &[Label], process: &OwnedFd) -> Step<()> {
    for label in labels {
        let (paths, expected): (&[&str], &str) = match label {
            Label::AppArmor(profile) => (&["attr/apparmor/current", "attr/current"], profile),
            Label::SeLinux(context) => (&["attr/current"], context),
        };
        let mut found = Err(std::io::Error::from(std::io::ErrorKind::NotFound));
        for path in paths {
            found = kernel_file(process, path);
            if !matches!(&found, Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
                break;
            }
        }
        match found {
            Ok(current) if is_label(&current, expected) => {}
            // One that has ended already has none.
            Err(error) if has_ended(&error) => {}
            Ok(_) | Err(_) => {
                let reason = format!("the program has not the security label {expected}");
                return Err(failure(FailureKind::Confinement, reason));
            }
        }
    }
    Ok(())
}

/// What reading in the directory of a process that has ended gives (proc(5)).
fn has_ended(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

#[cfg(test)]
mod tests;
