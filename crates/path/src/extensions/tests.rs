use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::*;

/// A structure of these objects: class, C-Type, content.
fn structure(objects: &[(u8, u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![VERSION << 4, 0, 0, 0];
    for (class, c_type, content) in objects {
        let length = u16::try_from(HEADER + content.len()).expect("short");
        bytes.extend(length.to_be_bytes());
        bytes.extend([*class, *c_type]);
        bytes.extend(*content);
    }
    let sum = u16::try_from(internet_sum(&bytes)).expect("16 bits");
    bytes[2..4].copy_from_slice(&(!sum).to_be_bytes());
    bytes
}

#[test]
fn no_bytes_are_no_extensions() {
    assert_eq!(IcmpExtension::read(&[]), Ok(vec![]));
    assert_eq!(IcmpExtension::read(&structure(&[])), Ok(vec![]));
}

#[test]
fn a_stack_of_two_labels() {
    let stack = [0x06, 0x40, 0x0a, 0xff, 0xff, 0xff, 0xf1, 0x01];
    let labels = vec![
        MplsLabel {
            label: 25_600,
            traffic_class: 5,
            bottom: false,
            ttl: 255,
        },
        MplsLabel {
            label: 0xf_ffff,
            traffic_class: 0,
            bottom: true,
            ttl: 1,
        },
    ];
    assert_eq!(
        IcmpExtension::read(&structure(&[(1, 1, &stack)])),
        Ok(vec![IcmpExtension::Mpls { labels }])
    );
}

#[test]
fn an_interface_with_all_its_parts() {
    let mut content = vec![0, 0, 0, 7];
    content.extend([0, 1, 0, 0, 192, 0, 2, 1]);
    content.extend([12, b'g', b'e', b'-', b'0', b'/', b'\x1b', 0, 0, 0, 0, 0]);
    content.extend(9_000_u32.to_be_bytes());
    let interface = InterfaceInformation {
        role: InterfaceRole::Outgoing,
        index: Some(7),
        address: Some([192, 0, 2, 1].into()),
        name: Some("ge-0/\u{fffd}".to_owned()),
        mtu: Some(9_000),
    };
    assert_eq!(
        IcmpExtension::read(&structure(&[(2, 0b1000_1111, &content)])),
        Ok(vec![IcmpExtension::Interface(interface)])
    );
}

#[test]
fn an_interface_with_an_ipv6_address_only() {
    let address: IpAddr = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into();
    let IpAddr::V6(v6) = address else {
        unreachable!()
    };
    let content = [&[0, 2, 0, 0][..], &v6.octets()].concat();
    let read = IcmpExtension::read(&structure(&[(2, 0b0100, &content)]));
    let Ok([IcmpExtension::Interface(interface)]) = read.as_deref() else {
        panic!("{read:?}");
    };
    assert_eq!(interface.role, InterfaceRole::Incoming);
    assert_eq!(interface.address, Some(address));
    assert_eq!((interface.index, interface.mtu), (None, None));
}

#[test]
fn what_breaks_its_own_format_is_kept_as_it_came() {
    let objects: [(u8, u8, &[u8]); 5] = [
        (1, 1, &[1, 2, 3]),
        (2, 0b0100, &[0, 3, 0, 0, 1, 2, 3, 4]),
        (2, 0b0010, &[5, b'a', b'b', b'c', b'd']),
        (2, 0, &[1]),
        (9, 9, &[1, 2]),
    ];
    let want = objects.map(|(class, c_type, content)| IcmpExtension::Other {
        class,
        c_type,
        bytes: content.to_vec(),
    });
    assert_eq!(IcmpExtension::read(&structure(&objects)), Ok(want.to_vec()));
}

#[test]
fn what_is_no_structure_is_refused() {
    let good = structure(&[(1, 1, &[0, 0, 1, 1])]);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        IcmpExtension::read(&bytes)
    };
    assert_eq!(with(0, 0x10), Err(ExtensionError::Version(1)));
    assert_eq!(with(11, 2), Err(ExtensionError::Checksum));
    for length in [0, 3, 9, 255] {
        let mut bytes = good.clone();
        // Without a checksum.
        bytes[2..4].fill(0);
        bytes[5] = length;
        let error = ExtensionError::Length { length: 12, at: 4 };
        assert_eq!(IcmpExtension::read(&bytes), Err(error), "{length}");
    }
    let error = ExtensionError::Length { length: 3, at: 0 };
    assert_eq!(IcmpExtension::read(&good[..3]), Err(error));
}

#[test]
fn it_reads_well_as_json() {
    let read = IcmpExtension::read(&structure(&[(1, 1, &[0, 0, 0x11, 9])]));
    assert_eq!(
        serde_json::to_string(&read.expect("a stack")).expect("serialises"),
        r#"[{"type":"mpls","labels":[{"label":1,"traffic_class":0,"bottom":true,"ttl":9}]}]"#
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = IcmpExtension::read(&bytes);
    }

    #[test]
    fn any_objects_are_read(
        objects in prop::collection::vec(
            (0..4_u8, any::<u8>(), prop::collection::vec(any::<u8>(), 0..80)),
            0..6,
        ),
    ) {
        let objects: Vec<_> = objects
            .iter()
            .map(|(class, c_type, content)| (*class, *c_type, &content[..]))
            .collect();
        let read = IcmpExtension::read(&structure(&objects));
        prop_assert_eq!(read.map(|read| read.len()), Ok(objects.len()));
    }
}
