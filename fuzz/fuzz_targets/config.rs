//! The configuration files of both servers: any text is a configuration or a readable error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = hsm_proxy::Config::parse(text) {
        assert!(!error.to_string().is_empty());
    }
    if let Err(error) = hsm_engine::Config::parse(text) {
        assert!(!error.to_string().is_empty());
    }
});
