#![no_main]
//! What is encoded decodes to itself, and what does not fit changes nothing.

use libfuzzer_sys::fuzz_target;
use perpacket_udp::cmsg::{Control, messages, space};

fuzz_target!(|input: Vec<(i32, i32, Vec<u8>)>| {
    let mut control = Control::<512>::new();
    let mut kept = Vec::new();
    for (level, kind, payload) in &input {
        let before = control.as_bytes().len();
        if control.push(*level, *kind, payload).is_ok() {
            kept.push((*level, *kind, payload.as_slice()));
        } else {
            assert!(before + space(payload.len()) > 512);
            assert_eq!(control.as_bytes().len(), before);
        }
    }
    assert_eq!(messages(control.as_bytes()).collect::<Vec<_>>(), kept);
});
