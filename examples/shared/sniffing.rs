use std::process::Command;

use anyhow::{Context, Result, bail};
use perpacket_lab::Sniffer;

/// Set for the child process of [`try_in_a_child`].
const CHILD: &str = "PERPACKET_EXAMPLE_MAY_I_ENTER";

/// A sniffer on the loopback interface: of this machine where the process may, which takes
/// `CAP_NET_RAW`, else of a network that is the process's own and that it moves into.
///
/// To be called first thing in `main`: a process with several threads cannot move.
///
/// # Errors
/// Where this system allows neither, with the reason.
pub fn open_sniffer() -> Result<Sniffer> {
    if std::env::var_os(CHILD).is_some() {
        answer_the_parent();
    }
    if let Ok(sniffer) = Sniffer::on_loopback() {
        return Ok(sniffer);
    }
    try_in_a_child()?;
    perpacket_lab::enter()?;
    Ok(Sniffer::on_loopback()?)
}

/// Some systems let a process into a network of its own and then give it no power there, not even
/// to bring the loopback interface up. There is no way back, so a child process goes first.
fn try_in_a_child() -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let child = Command::new(program)
        .env(CHILD, "1")
        .output()
        .context("cannot start this program again")?;
    if !child.status.success() {
        bail!("{}", String::from_utf8_lossy(&child.stderr).trim());
    }
    Ok(())
}

fn answer_the_parent() -> ! {
    let tried = perpacket_lab::enter().and_then(|()| Sniffer::on_loopback());
    let code = match tried {
        Ok(_) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    };
    std::process::exit(code)
}
