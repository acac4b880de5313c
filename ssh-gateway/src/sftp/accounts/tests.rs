use proptest::prelude::*;

use super::*;

#[test]
fn names_of_both_files() {
    let users = Names::of_users(
        b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/other:/bin/sh\nweb:x:33:33:w:/var/www:/bin/false\n\
          no home:x:5:5:::\nrelative:x:6:6::home:\nbad:x:7x:7::/:\n\x1b[2J:x:8:8::/evil:\nshort:x\n:x:9:9::/:\n",
    );
    let numbers: Vec<_> = users.by_number.iter().map(|(n, name)| (*n, name.as_str())).collect();
    assert_eq!(numbers, [(0, "root"), (6, "relative"), (33, "web")]);
    assert_eq!(users.homes.get(b"toor".as_slice()).map(Vec::as_slice), Some(b"/other".as_slice()));
    assert_eq!(users.homes.get(b"relative".as_slice()), None);
    let groups = Names::of_groups(b"staff:x:50:a,b\nwww:x:33:\n");
    assert_eq!(groups.by_number.get(&50).map(String::as_str), Some("staff"));
    assert!(groups.homes.is_empty());
}

proptest! {
    #[test]
    fn any_file_can_be_parsed(file in proptest::collection::vec(any::<u8>(), 0..400)) {
        for names in [Names::of_users(&file), Names::of_groups(&file)] {
            prop_assert!(names.by_number.values().all(|name| plain(name.as_bytes()).is_some()));
        }
    }
}
