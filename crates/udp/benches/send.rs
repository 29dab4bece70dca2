//! What options cost: `cargo bench -p perpacket-udp`. Times are to be read as ratios within one run.

use std::{hint::black_box, net::SocketAddr};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use perpacket_udp::{MessageOptions, Transmit, UdpSocket};

fn send(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let _in_runtime = runtime.enter();
    let sink = std::net::UdpSocket::bind("127.0.0.1:0").expect("a sink");
    let to: SocketAddr = sink.local_addr().expect("bound");
    let plain = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let socket = UdpSocket::bind("127.0.0.1:0".parse().expect("an address")).expect("a socket");
    let payload = [0; 1200];

    let mut group = criterion.benchmark_group("send 1200 bytes over loopback");
    group.throughput(Throughput::Elements(1));
    group.bench_function("std send_to", |bencher| {
        bencher.iter(|| plain.send_to(black_box(&payload), to).expect("sent"));
    });
    group.bench_function("no options", |bencher| {
        let transmit = Transmit::new(&payload, to);
        bencher.iter(|| socket.try_send(black_box(&transmit)).expect("sent"));
    });
    let mut number = 0u8;
    group.bench_function("TTL, DF and TOS changing on each", |bencher| {
        bencher.iter(|| {
            number = number.wrapping_add(1);
            let df_bit = Some(number.is_multiple_of(2));
            let options = MessageOptions {
                ttl: Some(number | 1),
                df_bit,
                tos: Some(number),
                ..MessageOptions::NONE
            };
            socket
                .try_send(&Transmit::new(&payload, to).with_options(options))
                .expect("sent")
        });
    });
    group.finish();
}

criterion_group!(benches, send);
criterion_main!(benches);
