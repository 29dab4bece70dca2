#![no_main]
//! Whatever the kernel hands over, decoding stays inside it.

use libfuzzer_sys::fuzz_target;
use perpacket_udp::cmsg::{byte, messages};

fuzz_target!(|control: &[u8]| {
    let mut total = 0;
    for (_, _, payload) in messages(control) {
        let _ = byte(payload);
        total += payload.len();
    }
    assert!(total <= control.len());
});
