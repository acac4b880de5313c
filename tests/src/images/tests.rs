use super::*;
use crate::engine::{self, Spec};

#[test]
fn an_image_is_shared_while_it_is_used_and_removed_afterwards() {
    let Some(engine) = engine::connect() else { return };
    let file =
        ImageFile { path: "file".to_owned(), mode: 0o644, content: unique_name().into_bytes() };
    let first = build(&engine, "FROM scratch\nCOPY file /file\n", std::slice::from_ref(&file));
    let second = build(&engine, "FROM scratch\nCOPY file /file\n", &[file]);
    assert_eq!(first.name(), second.name());
    let name = first.name().to_owned();
    drop((first, second));
    let docker = engine.docker().clone();
    assert!(wait(async move { docker.inspect_image(&name).await }).is_err());
}

#[test]
fn a_static_program_is_told_from_a_dynamic_one() {
    if let Some(busybox) = static_busybox() {
        assert!(is_static_elf(&fs::read(busybox).unwrap()));
    }
    assert!(!is_static_elf(&fs::read("/bin/sh").unwrap()));
    assert!(!is_static_elf(b"#!/bin/sh\n"));
    assert!(!is_static_elf(b"\x7fELF\x02\x01 cut short"));
}

#[test]
fn a_mirror_is_found_in_both_formats_of_apt() {
    let deb822 = "Types: deb\nURIs: http://mirror.example/debian\nSuites: stable\n";
    assert_eq!(mirror_in(deb822).as_deref(), Some("http://mirror.example/debian"));
    let one_line = "# comment\ndeb [signed-by=/k] https://mirror.example/debian stable main\n";
    assert_eq!(mirror_in(one_line).as_deref(), Some("https://mirror.example/debian"));
    let security_only = "deb http://security.debian.org/debian-security stable main\n";
    assert_eq!(mirror_in(security_only), None);
}

#[test]
fn a_debian_base_runs_its_own_programs() {
    let Some(engine) = engine::connect() else { return };
    let Some(image) = debian(&engine, &[]) else { return };
    let output = engine.run(Spec::new(&image, ["/usr/bin/dpkg", "--version"])).expect_code(0);
    assert!(output.stdout_text().contains("Debian"), "{output:?}");
}

#[test]
fn the_image_for_operators_is_built_from_the_recipe_they_get() {
    let Some(engine) = engine::connect() else { return };
    let Some(program) = static_busybox() else { return };
    let image = backup(&engine, &program);
    let output = engine.run(Spec::new(image.name(), ["--help"]));
    let said = [output.stdout, output.stderr].concat();
    // Busybox is called by the name the recipe gives it, and knows no applet of that name.
    assert!(String::from_utf8_lossy(&said).contains("backup"), "{said:?}");
}
