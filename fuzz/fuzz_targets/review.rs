//! Any bytes: they decode or they do not; what decodes is decided about, on a state that is always the same, without a panic and
//! within the rounds that the webhook allows.

#![no_main]

use libfuzzer_sys::fuzz_target;
use poolguard::webhook::review::decode;
use poolguard_policy::verdict::Decision;
use poolguard_policy::words::MESSAGE_LIMIT;

#[path = "../../tests/fixed.rs"]
mod fixed;

fuzz_target!(|body: &[u8]| {
    let Ok(decoded) = decode(body, fixed::further()) else { return };
    assert!(!decoded.uid.is_empty(), "no answer without a uid");
    if let Some(Decision::Refuse(refusal)) = decoded.request.as_ref().map(fixed::judge) {
        assert!(refusal.message.len() <= MESSAGE_LIMIT, "{}", refusal.message);
    }
});
