//! Links perpacket on the published webrtc-util.

use perpacket_webrtc as _;
use webrtc_util::vnet::net::Net;

fn main() {
    // Exhaustive: with the fork, which has a third variant, this does not compile.
    match Net::new(None) {
        Net::Ifs(interfaces) => println!("stock webrtc-util, {} interfaces", interfaces.len()),
        Net::VNet(_) => unreachable!("without a configuration it is the system's"),
    }
}
