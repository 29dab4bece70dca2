//! What is seen of a client.

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::Value;

use super::scene::Scene;
use crate::support::hosts::Family;
use crate::whip::client::Offer;

pub(crate) fn client(family: Family) -> Result<()> {
    let scene = Scene::new(family)?;
    let (client, id) = scene.client(&Offer::everything())?;
    let _media = client.send_media();
    let routers = scene.hosts.routers();
    let is_sampled = |view: &Value| {
        let sample = &view["sample"];
        sample["rtt_ms"].is_number()
            && sample["classes"]["srtp"]["received_packets"].as_u64() > Some(20)
            && view["path_mtu"].is_object()
            && view["verdict"]["level"] != "unknown"
            && view["applied"]["srtp"]["sent"].as_u64() > Some(20)
    };
    let view = scene.wait_for(&id, "to be sampled", is_sampled)?;
    let sample = &view["sample"];
    ensure!(view["id"] == *id && view["server"] == "lab", "{view}");
    ensure!(
        view["ended"] == Value::Null && view["guard"] == Value::Null,
        "{view}"
    );
    let address = scene.hosts.sides[0].address.to_string();
    ensure!(view["client"] == *address, "{view}");
    let pair = &view["pair"];
    let remote = pair["remote"].as_str().context("no pair")?;
    ensure!(remote.contains(&address), "{pair}");
    ensure!(pair["local_type"] == "host", "{pair}");
    ensure!(sample["rtt_ms"].as_f64() < Some(1_000.0), "{sample}");
    ensure!(sample["received_ttl"] == 64 - routers, "{sample}");
    ensure!(sample["received_dscp"] == "CS0", "{sample}");
    ensure!(sample["received_ecn"] == "not-ect", "{sample}");
    ensure!(view["path_mtu"]["mtu"] == 1_500, "{view}");
    for class in ["stun", "dtls", "srtp"] {
        let applied = &view["applied"][class];
        ensure!(
            applied["ttl"] == 64 && applied["tos"] == 0,
            "{class}: {applied}"
        );
        // The system sets DF by itself; IPv6 has none.
        let df = match family {
            Family::V4 => Value::Bool(true),
            Family::V6 => Value::Null,
        };
        ensure!(applied["df_bit"] == df, "{class}: {applied}");
    }

    let list = scene.operator.get("/api/clients?state=live")?.is(200)?;
    ensure!(list["clients"][0]["id"] == *id, "{list}");
    ensure!(client.delete()?.status() == 200);
    scene.wait_for(&id, "to be gone", |view| view["ended"].is_string())?;
    let list = scene.operator.get("/api/clients?state=live")?.is(200)?;
    ensure!(list["clients"] == Value::Array(Vec::new()), "{list}");
    let list = scene.operator.get("/api/clients")?.is(200)?;
    ensure!(list["clients"][0]["state"] == "closed", "{list}");
    let path = format!("/api/clients/{id}/socket-options");
    let set = scene.operator.post(&path, &serde_json::json!({"ttl": 5}))?;
    set.problem(409, "has ended")?;
    Ok(())
}

pub(crate) fn itself() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    let (client, id) = scene.client(&Offer::messages())?;
    let path = format!("/self/{id}");
    let nobody = |method: Method, path: &str| {
        let operator = &scene.operator;
        operator.send(method, path, &[], String::new())
    };
    let mut events = scene.operator.follow(&format!("{path}/events"), &[])?;
    let event = events.until(|event| {
        event.data["rtt_ms"].is_number()
            && event.data["path_mtu"].is_number()
            && event.data["hops"].is_number()
    })?;
    ensure!(event.name == "self", "{event:?}");
    let hops = scene.hosts.routers() + 1;
    ensure!(event.data["hops"] == hops, "{event:?}");
    ensure!(event.data["state"] == "connected", "{event:?}");
    let view = nobody(Method::GET, &path)?.is(200)?;
    ensure!(view["path_mtu"] == 1_500, "{view}");

    let share = nobody(Method::POST, &format!("{path}/share"))?.is(200)?;
    let url = share["url"].as_str().context("no address")?;
    ensure!(!url.contains(&id), "it tells the client's own name");
    let result = nobody(Method::GET, &format!("{url}/result"))?.is(200)?;
    ensure!(
        result["path_mtu"] == 1_500 && result["server"] == "lab",
        "{result}"
    );
    let text = result.to_string();
    let address = scene.hosts.sides[0].address.to_string();
    ensure!(!text.contains(&id) && !text.contains(&address), "{text}");
    let page = nobody(Method::GET, url)?;
    ensure!(page.status == 200, "{page:?}");

    ensure!(client.delete()?.status() == 200);
    while let Some(event) = events.next()? {
        ensure!(event.name == "self", "{event:?}");
    }
    // An event source does not try again after this.
    let gone = nobody(Method::GET, &format!("{path}/events"))?;
    ensure!(gone.status == 204, "{gone:?}");
    nobody(Method::POST, &format!("{path}/share"))?.is(200)?;
    Ok(())
}
