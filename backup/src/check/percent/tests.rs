use super::*;
use crate::chunk::ChunkId;

fn packs() -> impl Iterator<Item = PackId> {
    (0..=u16::MAX).step_by(97).map(|at| {
        let [first, second] = at.to_be_bytes();
        let mut id = [7; 16];
        (id[0], id[1]) = (first, second);
        PackId(ChunkId(id))
    })
}

#[test]
fn shares_are_whole_numbers_from_1_to_100() {
    assert_eq!("100".parse(), Ok(Percent::ALL));
    assert_eq!("7%".parse::<Percent>().unwrap().to_string(), "7%");
    for text in ["", "0", "101", "-1", "1.5", "%", "ten", "300"] {
        assert!(text.parse::<Percent>().is_err(), "{text}");
    }
}

#[test]
fn all_is_every_pack_whatever_the_turn() {
    for rotation in [0, 1, 20_000, u64::MAX] {
        assert!(packs().all(|pack| Percent::ALL.takes(&pack, rotation)));
    }
}

#[test]
fn consecutive_shares_read_every_pack_and_each_about_its_part() {
    for (percent, turns) in [(1, 100), (7, 15), (10, 10), (33, 4), (50, 2), (99, 2)] {
        let share = Percent(percent);
        for first in [0_u64, 20_777] {
            let takes = |pack: &PackId| (first..first + turns).any(|turn| share.takes(pack, turn));
            assert!(packs().all(|pack| takes(&pack)), "{percent} % from turn {first}");
        }
        let taken = packs().filter(|pack| share.takes(pack, 3)).count();
        let all = packs().count();
        let wanted = all * usize::from(percent) / 100;
        assert!(taken.abs_diff(wanted) <= all / 100 + 1, "{percent} % took {taken} of {all}");
    }
}
