//! One datagram after the other.

use anyhow::Result;
use perpacket_webrtc::CustomNet;

use crate::{
    measure::{Contender, Sample, current_thread, in_turn},
    packet::of_all_streams,
    report::{Options, Outcome, compare_all, rows},
};

use super::{
    Way,
    place::Place,
    ways::{RUN, conn_with_options},
};

/// How many datagrams a round has.
const COUNT: usize = 8192;

/// All ways at one place, with datagrams of that many bytes.
pub(super) fn compare(place: &Place, length: usize, options: &Options) -> Result<Outcome> {
    let runtime = current_thread()?;
    let in_runtime = runtime.enter();
    let from = place.from();
    let ways = [
        ("stock", runtime.block_on(Way::stock(from))?),
        ("no-options", Way::conn(&CustomNet::new(), from)?),
        ("options", conn_with_options(from)?),
        ("socket-options", Way::socket(from)?),
        ("quinn-udp", Way::quinn(from, false)?),
        ("quinn-udp-gso-16", Way::quinn(from, true)?),
        ("floor", Way::floor(from)?),
        ("floor-options", Way::floor_with_options(from)?),
    ];
    drop(in_runtime);
    let (packets, to) = (of_all_streams(length), place.to[0]);
    let count = if options.quick { 32 * RUN } else { COUNT };
    let prefix = format!("send/{}/{length}/{}", place.family(), place.name);

    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for (name, way) in &ways {
        let (runtime, packets) = (&runtime, &packets);
        let send = move || Sample::of_thread(|| runtime.block_on(way.send(packets, to, count)));
        contenders.push((format!("{prefix}/{name}"), Box::new(send)));
    }
    let samples = in_turn(&mut contenders, options.rounds)?;
    let names = contenders.iter().map(|(name, _)| name.as_str());
    let mut outcome = Outcome {
        rows: rows(names.zip(&samples)),
        ..Outcome::default()
    };
    compare_all(&mut outcome.rows, &samples, 0);
    if (place.name, place.family(), length) == ("loopback", "v4", 1200) {
        let ratio = outcome.rows[2].against.as_ref().map(|(_, ratio)| *ratio);
        if let Some(ratio) = ratio {
            outcome.bar("unbatched", ratio);
        }
    }
    Ok(outcome)
}
