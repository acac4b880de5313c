//! A line about a file as `ls -l` writes it, for clients that show it to people (draft 02, 7).

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::{FileType, Stat};

/// Older files show their year instead of the time of day, as in ls. In seconds.
const HALF_A_YEAR: i64 = 365 * 24 * 60 * 60 / 2;

/// The line. Times are UTC: what the container says about its time zone is not asked.
pub(super) fn line(stat: &Stat, user: &str, group: &str, name: &[u8], now: i64) -> Vec<u8> {
    let mut line = format!(
        "{} {:>3} {user:<8} {group:<8} {:>8} {} ",
        mode(stat.st_mode),
        stat.st_nlink,
        stat.st_size,
        time(stat.st_mtime, now),
    )
    .into_bytes();
    line.extend_from_slice(name);
    line
}

/// Kind and permissions in eleven characters.
fn mode(mode: u32) -> String {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::RegularFile => '-',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Unknown => '?',
    };
    let letter = |bit: u32, letter: char| if mode & bit == 0 { '-' } else { letter };
    let execute = |bit: u32, special: u32, both: char, only: char| match (
        mode & bit != 0,
        mode & special != 0,
    ) {
        (true, true) => both,
        (false, true) => only,
        (true, false) => 'x',
        (false, false) => '-',
    };
    [
        kind,
        letter(0o400, 'r'),
        letter(0o200, 'w'),
        execute(0o100, 0o4000, 's', 'S'),
        letter(0o040, 'r'),
        letter(0o020, 'w'),
        execute(0o010, 0o2000, 's', 'S'),
        letter(0o004, 'r'),
        letter(0o002, 'w'),
        execute(0o001, 0o1000, 't', 'T'),
        ' ',
    ]
    .iter()
    .collect()
}

fn time(seconds: i64, now: i64) -> String {
    let Ok(time) = Timestamp::from_second(seconds) else { return format!("{seconds:>12}") };
    let time = time.to_zoned(TimeZone::UTC);
    let form = if now.saturating_sub(seconds) < HALF_A_YEAR { "%b %e %H:%M" } else { "%b %e  %Y" };
    time.strftime(form).to_string()
}

#[cfg(test)]
mod tests;
