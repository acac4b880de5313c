use super::*;

const STATUS: &str = "Name:\tsh\nUid:\t33\t33\t33\t33\nGid:\t34\t34\t34\t34\nGroups:\t44 34 \n\
    CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
    CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n\
    Seccomp_filters:\t1\n";

fn expected() -> Expected {
    let mask = 0xa804_25fb;
    Expected {
        identity: Identity { uid: 33, gid: 34, groups: vec![34, 44] },
        capabilities: CapabilitySets {
            bounding: mask,
            effective: mask,
            permitted: mask,
            ..CapabilitySets::default()
        },
        no_new_privileges: false,
        filters: 1,
    }
}

#[test]
fn what_is_as_it_must_be_is_proved() {
    assert_eq!(mismatches(&Status::parse(STATUS), &expected()), Vec::<String>::new());
}

#[test]
fn each_single_difference_is_found() {
    for (from, to) in [
        ("Uid:\t33\t33\t33\t33", "Uid:\t33\t33\t0\t33"),
        ("Uid:\t33\t33\t33\t33", "Uid:\t33\t33"),
        ("Gid:\t34\t34\t34\t34", "Gid:\t0\t34\t34\t34"),
        ("Groups:\t44 34 ", "Groups:\t44 34 0 "),
        ("Groups:\t44 34 ", "Groups:\t44 "),
        ("CapInh:\t0000000000000000", "CapInh:\t0000000000000001"),
        ("CapPrm:\t00000000a80425fb", "CapPrm:\t00000000a80425ff"),
        ("CapEff:\t00000000a80425fb", "CapEff:\tnonsense"),
        ("CapBnd:\t00000000a80425fb", "CapBnd:\t000001ffffffffff"),
        ("CapAmb:\t0000000000000000", "CapAmb:\t0000000000000001"),
        ("NoNewPrivs:\t0", "NoNewPrivs:\t1"),
        ("NoNewPrivs:\t0\n", ""),
        ("Seccomp:\t2\n", "Seccomp:\t0\n"),
        ("Seccomp:\t2\n", ""),
        ("Seccomp_filters:\t1", "Seccomp_filters:\t2"),
    ] {
        let changed = STATUS.replacen(from, to, 1);
        assert_ne!(changed, STATUS);
        assert_eq!(mismatches(&Status::parse(&changed), &expected()).len(), 1, "{to}");
    }
}

#[test]
fn maps_of_user_namespaces_are_walked() {
    let map = "         0     100000      65536\n     70000        500          1\n";
    for (inside, outside) in [
        (0, Some(100_000)),
        (65_535, Some(165_535)),
        (65_536, None),
        (70_000, Some(500)),
        (70_001, None),
    ] {
        assert_eq!(through(map, inside), outside, "{inside}");
    }
    assert_eq!(through("0 4294967295 5", 3), None);
    assert_eq!(through("", 0), None);
}

#[test]
fn a_program_with_a_toolbox_differs_in_its_mounts_and_in_nothing_else() {
    let namespaces =
        |mounts: &str, network: &str| Namespaces::of_texts(&[("mnt", mounts), ("net", network)]);
    let (container, gateway) = (namespaces("mnt:[2]", "net:[2]"), namespaces("mnt:[1]", "net:[1]"));
    let plain = Places { container: &container, apart_from: None };
    let apart = Places { container: &container, apart_from: Some(&gateway) };
    for (found, is_plain, is_apart) in [
        (namespaces("mnt:[2]", "net:[2]"), true, false),
        (namespaces("mnt:[3]", "net:[2]"), false, true),
        (namespaces("mnt:[1]", "net:[2]"), false, false),
        (namespaces("mnt:[3]", "net:[1]"), false, false),
        (namespaces("mnt:[2]", "net:[1]"), false, false),
    ] {
        assert_eq!(plain.are(&found), is_plain, "{found}");
        assert_eq!(apart.are(&found), is_apart, "{found}");
    }
}
