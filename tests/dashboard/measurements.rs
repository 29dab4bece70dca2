//! A trace and a search for the path MTU, by the buttons of the page; and what a reload leaves.

use anyhow::{Context as _, Result, ensure};

use super::page::Page;
use super::scene::Scene;
use crate::support::hosts::Family;

pub(crate) fn filled_in() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    let (measured, id) = scene.measured()?;
    let (_program, other, _media) = scene.program()?;
    let (_another, _, _more) = scene.program()?;
    let operator = scene.operator()?;
    scene.wait_for_first_look(&id)?;
    let looked_at = scene.wait_for_first_look(&other)?;
    operator.click(&format!("a[href='/dashboard/clients/{id}']"))?;
    operator.wait_for_text(".card.trace", "Not measured yet.")?;

    trace(&operator, &scene)?;
    path_mtu(&operator)?;
    operator.fill("#ttl", "20")?;
    operator.click("#dscp option[value='46']")?;
    operator.click(&format!("{FORM} .primary"))?;
    operator.wait_for_text(".changes li .what", "TTL unset → 20, DSCP unset → EF")?;
    operator.wait("with a mark", &format!("{MARKS} === 6"))?;
    scene.lose(&looked_at, 20)?;
    // The charts show some time before and after it.
    operator.wait(
        "with samples since",
        &format!("{LINE}.first < 40 && {LINE}.last > {MARK} + 40"),
    )?;
    operator.picture_to(".card.trace", "client")?;
    operator.click("#to-clients")?;
    operator.wait_for_text(".clients .verdict.bad + .reasons", "of packets lost")?;
    operator.picture("clients")?;
    operator.click(&format!("a[href='/dashboard/clients/{id}']"))?;
    kept(&operator)?;

    operator.reload()?;
    operator.wait(
        "without the login",
        "document.querySelector('#login').hidden",
    )?;
    kept(&operator)?;
    operator.wait_for_text("#stream", "live")?;
    measured.close()?;

    operator.wait_for_text(".client .notice:not([hidden])", "The session ended at")?;
    kept(&operator)?;
    operator.close()
}

/// All that has happened so far is there.
fn kept(operator: &Page) -> Result<()> {
    operator.wait_for_text(".changes li .what", "TTL unset → 20, DSCP unset → EF")?;
    operator.wait("with the mark", &format!("{MARKS} === 6"))?;
    operator.wait(
        "with samples of before",
        &format!("{LINE}.first < {MARK} - 10"),
    )?;
    operator.wait_for_text(".card.trace .hops tbody", "the client")?;
    operator.wait_for_text(".card.pmtu .result", "1,400 B pass, exactly")
}

const FORM: &str = "section[aria-labelledby=options] form";

/// How many marks of changes are in the six charts.
const MARKS: &str = "document.querySelectorAll('.chart .change').length";

/// Where the mark of the change is in the first chart, pixels.
const MARK: &str = "parseFloat(document.querySelector('.chart .change').style.left)";

/// From where to where the first line of the first chart is drawn, pixels.
const LINE: &str = "(() => {
    const colour = getComputedStyle(document.documentElement).getPropertyValue('--series-1').trim();
    const wanted = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    const over = document.querySelector('.chart .u-over');
    const [width, height] = [over.clientWidth, over.clientHeight];
    const copy = new OffscreenCanvas(width, height).getContext('2d');
    copy.drawImage(document.querySelector('.chart canvas'), -over.offsetLeft, -over.offsetTop);
    const { data } = copy.getImageData(0, 0, width, height);
    const columns = [];
    for (let at = 0; at < data.length; at += 4) {
        const isLine = data[at + 3] > 250 && wanted.every((value, part) => Math.abs(value - data[at + part]) < 8);
        if (isLine) columns.push((at / 4) % width);
    }
    return { first: Math.min(...columns), last: Math.max(...columns) };
})()";

fn trace(operator: &Page, scene: &Scene) -> Result<()> {
    operator.click(".card.trace .primary")?;
    operator.wait_for_text(".card.trace [role=status]", "Running since")?;
    operator.wait(
        "with all hops",
        "document.querySelectorAll('.hops tbody tr').length === 3",
    )?;
    // The first round is there long before the last.
    let state = operator.text(".card.trace [role=status]")?;
    ensure!(state.starts_with("Running since"), "{state}");
    operator.wait_for_text(".card.trace [role=status]", "done after")?;

    let rows = operator.cells(".hops tbody tr")?;
    let places: Vec<_> = rows.iter().map(|row| (&*row[0], &*row[1])).collect();
    let far = scene.far.address.to_string();
    let expected = [("1", "10.0.2.1"), ("2", "10.0.1.1"), ("3", &far)];
    ensure!(places.len() == 3, "{rows:?}");
    for ((hop, address), (number, expected)) in places.into_iter().zip(expected) {
        ensure!(hop == number && address.starts_with(expected), "{rows:?}");
    }
    ensure!(
        rows[2]
            .last()
            .is_some_and(|notes| notes.contains("the client")),
        "{rows:?}"
    );
    Ok(())
}

fn path_mtu(operator: &Page) -> Result<()> {
    operator.click(".card.pmtu summary")?;
    operator.click("#pmtu-refine")?;
    operator.click(".card.pmtu .primary")?;
    operator.wait_for_text(".card.pmtu [role=status]", "done after")?;
    let result = operator.text(".card.pmtu .result")?;
    ensure!(
        result == "1,400 B pass, exactly: 1,401 B do not.",
        "{result}"
    );
    let rows = operator.cells(".card.pmtu .ladder tbody tr")?;
    let of = |size: &str| {
        rows.iter()
            .find(|row| row[0] == size)
            .with_context(|| format!("{rows:?}"))
    };
    ensure!(of("1,400 B")?[2].contains("passed"), "{rows:?}");
    ensure!(of("1,500 B")?[2].contains("refused"), "{rows:?}");
    operator.wait_for_text(".list", "1,400 B, exact")
}
