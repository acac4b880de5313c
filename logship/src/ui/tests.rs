use super::*;

#[test]
fn the_page_names_only_what_is_served() {
    assert!(LOGIN.contains(FORM));
    for html in [PAGE, LOGIN, WRONG] {
        assert!(!html.contains("<style") && !html.contains("style="), "{html}");
        for path in html.split("=\"/").skip(1) {
            let path = format!("/{}", path.split('"').next().unwrap());
            assert!(route(&path).is_some(), "{path}");
        }
        // The policy forbids what comes from elsewhere and what runs from markup.
        for forbidden in ["http:", "https:", "javascript:", "onclick", "onload", "onerror"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
    }
}

#[test]
fn scripts_make_no_markup() {
    for (name, file) in FILES {
        let Route::File(_, text) = file else { panic!("{name} is no file") };
        for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
        {
            assert!(!text.contains(forbidden), "{name} uses {forbidden}");
        }
        assert!(!text.contains("https://") && !text.contains("@import"), "{name}");
    }
}

#[test]
fn paths_are_exact() {
    assert_eq!(route("/"), Some(Route::Page));
    for path in ["", "//", "/page", "/api", "/api/lines/", "/../page.js", "/PAGE.js"] {
        assert_eq!(route(path), None, "{path}");
    }
}
