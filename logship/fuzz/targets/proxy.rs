//! The proxy of the engine's socket: any method and path is refused, or becomes a request that is allowed itself.
#![no_main]

use hyper::header::HeaderMap;
use hyper::{Method, Uri};
use libfuzzer_sys::fuzz_target;
use logship::proxy::decide::{Way, decide};

fuzz_target!(|input: (bool, &str)| {
    let (is_post, path) = input;
    let method = if is_post { Method::POST } else { Method::GET };
    let Ok(uri) = path.parse::<Uri>() else { return };
    if let Ok(ask) = decide(&method, &uri, &HeaderMap::new(), false, Way::Tcp) {
        let again: Uri = ask.path.parse().expect("what goes to the engine is a path");
        assert_eq!(decide(&method, &again, &HeaderMap::new(), false, Way::Tcp).expect("it is allowed"), ask);
    }
});
