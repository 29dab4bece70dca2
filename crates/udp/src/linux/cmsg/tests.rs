use proptest::{collection::vec, prelude::*};

use super::*;

proptest! {
    /// What the kernel hands over is bounded by the buffer, whatever its lengths say.
    #[test]
    fn arbitrary_bytes_never_crash(bytes in vec(any::<u8>(), 0..300)) {
        let mut total = 0;
        for (_, _, payload) in messages(&bytes) {
            total += HEADER + payload.len();
        }
        prop_assert!(total <= bytes.len());
    }

    #[test]
    fn what_is_encoded_decodes_to_itself(
        input in vec((any::<i32>(), any::<i32>(), vec(any::<u8>(), 0..41)), 0..8),
    ) {
        let mut control = Control::<256>::new();
        let mut kept = Vec::new();
        for (level, kind, payload) in &input {
            let before = control.as_bytes().len();
            if control.push(*level, *kind, payload).is_ok() {
                kept.push((*level, *kind, payload.as_slice()));
            } else {
                prop_assert!(before + space(payload.len()) > 256);
                prop_assert_eq!(control.as_bytes().len(), before);
            }
        }
        prop_assert_eq!(messages(control.as_bytes()).collect::<Vec<_>>(), kept);
    }

    /// Cut anywhere, the messages before the cut are still there and nothing is made up.
    #[test]
    fn truncation_loses_only_the_tail(cut in 0usize..96, values in vec(any::<i32>(), 4)) {
        let mut control = Control::<96>::new();
        for value in &values {
            control.push_int(1, 2, *value).expect("room for four");
        }
        let seen: Vec<_> = messages(&control.as_bytes()[..cut])
            .filter_map(|(_, _, payload)| decode::int(payload))
            .collect();
        prop_assert_eq!(&seen[..], &values[..seen.len()]);
        prop_assert!(seen.len() >= cut / 24);
    }
}

/// The layout is the C library's.
#[expect(unsafe_code, reason = "libc marks arithmetic as unsafe")]
#[test]
fn agrees_with_libc() {
    for payload in 0..100u32 {
        // SAFETY: the two are pure arithmetic.
        let (libc_space, libc_len) =
            unsafe { (libc::CMSG_SPACE(payload), libc::CMSG_LEN(payload)) };
        assert_eq!(space(payload as usize), libc_space as usize);
        assert_eq!(HEADER + payload as usize, libc_len as usize);
    }
    let mut control = Control::<64>::new();
    control
        .push_int(libc::SOL_IP, libc::IP_TTL, 7)
        .expect("room");
    assert_eq!(
        control
            .as_bytes()
            .as_ptr()
            .align_offset(align_of::<libc::cmsghdr>()),
        0
    );
    assert_eq!(&control.as_bytes()[..8], (20usize).to_ne_bytes());
}

#[test]
fn a_byte_is_read_from_one_byte_or_four() {
    assert_eq!(decode::byte(&[184]), Some(184));
    assert_eq!(decode::byte(&184i32.to_ne_bytes()), Some(184));
    assert_eq!(decode::byte(&256i32.to_ne_bytes()), None);
    assert_eq!(decode::byte(&(-1i32).to_ne_bytes()), None);
    assert_eq!(decode::byte(&[1, 2]), None);
}
