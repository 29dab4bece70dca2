//! Who is let in, and what is said to whoever asks what makes no sense.

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};

use super::operator::{Answer, Operator};
use super::scene::Scene;
use crate::support::hosts::Family;
use crate::whip::client::Offer;

const NOBODY: &str = "0123456789abcdef0123456789abcdef";

/// Something that can be asked, as the OpenAPI document has it.
#[derive(Debug)]
struct Operation {
    method: Method,
    /// With names in it that nobody has.
    path: String,
    of_operators: bool,
    has_body: bool,
}

/// All that there is: what comes anew is tried, too.
fn operations(scene: &Scene) -> Result<Vec<Operation>> {
    let document = scene.operator.get("/api/openapi.json")?.is(200)?;
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().context("no paths")? {
        for (method, operation) in item.as_object().context("no operations")? {
            operations.push(Operation {
                method: method.to_uppercase().parse()?,
                path: path
                    .replace("{id}", NOBODY)
                    .replace("{share}", NOBODY)
                    .replace("{measurement}", "1"),
                of_operators: operation["security"].is_array(),
                has_body: operation["requestBody"].is_object(),
            });
        }
    }
    let of_operators = operations.iter().filter(|it| it.of_operators).count();
    ensure!(of_operators >= 16, "{operations:?}");
    Ok(operations)
}

impl Operation {
    /// Asks it with these headers, and a body where it has one.
    fn ask(&self, operator: &Operator, headers: &[(&str, &str)], query: &str) -> Result<Answer> {
        let (mut headers, mut body) = (headers.to_vec(), String::new());
        if self.has_body {
            headers.push(("content-type", "application/json"));
            body.push_str("{}");
        }
        let path = format!("{}{query}", self.path);
        operator.send(self.method.clone(), &path, &headers, body)
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

pub(crate) fn token() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    let operator = &scene.operator;
    let almost = format!("Bearer {}", &operator.token[..operator.token.len() - 1]);
    let basic = format!("Basic {}", operator.token);
    let in_query = format!("?token={}", operator.token);
    for operation in operations(&scene)? {
        let refused = |headers: &[(&str, &str)], query: &str, words: &str| {
            let answer = operation.ask(operator, headers, query)?;
            if operation.of_operators {
                ensure!(answer.header("www-authenticate")? == "Bearer", "{answer:?}");
                answer.problem(401, words)?;
            } else {
                ensure!(answer.status != 401, "{answer:?}");
            }
            anyhow::Ok(())
        };
        let all = || {
            refused(&[], "", "bearer token")?;
            refused(&[], &in_query, "bearer token")?;
            refused(&[("authorization", &basic)], "", "bearer token")?;
            refused(&[("authorization", "Bearer")], "", "bearer token")?;
            refused(&[("authorization", &almost)], "", "not the token")
        };
        all().with_context(|| operation.to_string())?;
    }
    for path in [
        "/",
        "/dashboard",
        "/healthz",
        "/api/openapi.json",
        "/api/docs",
    ] {
        let answer = operator.send(Method::GET, path, &[], String::new())?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
    }
    Ok(())
}

pub(crate) fn origins() -> Result<()> {
    let scene = Scene::with(Family::V6, |server| server.origin("https://ops.test"))?;
    let operator = &scene.operator;
    let bearer = format!("Bearer {}", operator.token);
    let mine = format!("http://{}", scene.address);
    for operation in operations(&scene)? {
        for origin in ["http://evil.test", "null", "http://[fd00::1]"] {
            let headers = [("authorization", bearer.as_str()), ("origin", origin)];
            let answer = operation.ask(operator, &headers, "")?;
            let context = || format!("{operation} from {origin}");
            answer
                .problem(403, "another origin")
                .with_context(context)?;
        }
        if operation.path == "/api/events" {
            continue;
        }
        for origin in [mine.as_str(), "https://ops.test"] {
            let headers = [("authorization", bearer.as_str()), ("origin", origin)];
            let answer = operation.ask(operator, &headers, "")?;
            ensure!(
                answer.status != 403,
                "{operation} from {origin}: {answer:?}"
            );
        }
    }
    Ok(())
}

pub(crate) fn bad_input() -> Result<()> {
    let scene = Scene::recorded(Family::V4)?;
    let operator = &scene.operator;
    let (_client, id) = scene.client(&Offer::messages())?;
    let client = format!("/api/clients/{id}");
    let options = format!("{client}/socket-options");
    let measurements = format!("{client}/measurements");

    for operation in operations(&scene)? {
        let tried = anything(operator, &operation);
        tried.with_context(|| operation.to_string())?;
    }
    bad_bodies(&scene, &options, &measurements)?;
    bad_parameters(&scene, &client)?;

    operator
        .get("/api/nothing")?
        .problem(404, "nothing at /api/nothing")?;
    operator.get("/api/clients/%ff")?.problem(404, "")?;
    operator.get("/self/1")?.problem(404, "no such client")?;
    let too_long = operator.get(&format!("/api/clients/{}", "a".repeat(60_000)))?;
    too_long.problem(404, "no such client")?;
    bad_offers(operator)
}

/// What is wrong with any request alike.
fn anything(operator: &Operator, operation: &Operation) -> Result<()> {
    let bearer = format!("Bearer {}", operator.token);
    let authorized = [("authorization", bearer.as_str())];
    if operation.path.contains(NOBODY) {
        let answer = operation.ask(operator, &authorized, "")?;
        answer.problem(404, "no such")?;
    }
    // Whoever looks whether the server is there may say anything.
    if operation.path != "/healthz" {
        let answer = operation.ask(operator, &authorized, "?colour=red")?;
        let problem = answer.problem(422, "colour: is not known")?;
        ensure!(problem["value"] == "red", "{problem}");
    }
    let answer = operator.send(Method::PUT, &operation.path, &authorized, String::new())?;
    let allowed = answer.header("allow")?.contains(operation.method.as_str());
    ensure!(allowed, "{answer:?}");
    answer.problem(405, "PUT means nothing here")?;
    if !operation.has_body {
        return Ok(());
    }
    let send = |kind: &str, body: String| {
        let headers = [authorized[0], ("content-type", kind)];
        operator.send(operation.method.clone(), &operation.path, &headers, body)
    };
    let json = "application/json";
    send(json, "{\"ttl\": ".to_owned())?.problem(400, "not JSON")?;
    send(json, String::new())?.problem(400, "not JSON")?;
    send(json, "[".repeat(10_000))?.problem(400, "not JSON")?;
    send("text/plain", "{}".to_owned())?.problem(415, "application/json")?;
    let long = format!("{{\"ttl\": {}1}}", " ".repeat(20_000));
    send(json, long)?.problem(413, "16384 bytes")?;
    send("application/json; charset=utf-8", "{}".to_owned())?.problem(404, "no such")?;
    Ok(())
}

/// The endpoint that anybody can post to, which the document does not have.
fn bad_offers(operator: &Operator) -> Result<()> {
    let post = |kind: &str, body: String| {
        operator.send(Method::POST, "/whip", &[("content-type", kind)], body)
    };
    let sdp = "application/sdp";
    post(sdp, "v=0".to_owned())?.problem(400, "")?;
    post(sdp, String::new())?.problem(400, "")?;
    post("application/json", "{}".to_owned())?.problem(415, sdp)?;
    post(sdp, "a".repeat(70_000))?.problem(413, "65536 bytes")?;
    operator.get("/whip")?.problem(405, "GET")?;
    operator
        .delete(&format!("/whip/{NOBODY}"))?
        .problem(404, "no such session")?;
    Ok(())
}

/// Fields that cannot be; nothing is changed then.
fn bad_bodies(scene: &Scene, options: &str, measurements: &str) -> Result<()> {
    let operator = &scene.operator;
    let refused = [
        (
            options,
            json!({"ttl": 300}),
            "ttl",
            "ttl: 300 is out of range, allowed is 1..=255",
        ),
        (options, json!({"ttl": 0}), "ttl", "1..=255"),
        (options, json!({"tos": -1}), "tos", "0..=255"),
        (options, json!({"df_bit": 1}), "df_bit", "true or false"),
        (options, json!({"dscp": "EFF"}), "dscp", "AF11"),
        (options, json!({"ecn": 7}), "ecn", "ect0"),
        (options, json!({"tos": 1, "dscp": 1}), "tos", "dscp"),
        (options, json!({"class": "rtp"}), "class", "srtp"),
        (
            options,
            json!({"revert_after_s": 0}),
            "revert_after_s",
            "1..=86400",
        ),
        (options, json!({"ttl": 3, "mtu": 1}), "mtu", "not known"),
        (options, json!([]), "body", "a JSON object"),
        (measurements, json!({}), "kind", "trace"),
        (measurements, json!({"kind": "ping"}), "kind", "trace"),
        (
            measurements,
            json!({"kind": "pmtu", "rounds": 1}),
            "rounds",
            "not known",
        ),
        (
            measurements,
            json!({"kind": "qos", "marks": ["XX"]}),
            "marks",
            "DSCP",
        ),
    ];
    for (path, body, field, words) in refused {
        let problem = operator.post(path, &body)?.problem(422, words);
        let problem = problem.with_context(|| format!("{path} {body}"))?;
        ensure!(problem["field"] == field, "{problem}");
        ensure!(problem.get("value").is_some(), "{problem}");
        ensure!(problem["allowed"].is_string(), "{problem}");
    }
    let before = operator.get(options)?.is(200)?;
    ensure!(before["asked"]["all"]["ttl"] == Value::Null, "{before}");
    Ok(())
}

fn bad_parameters(scene: &Scene, client: &str) -> Result<()> {
    let operator = &scene.operator;
    for (path, field) in [
        ("/api/clients?state=dead", "state"),
        ("/api/clients?limit=0", "limit"),
        ("/api/clients?before=yesterday", "before"),
        ("/api/clients?colour=red", "colour"),
        ("/api/audit?limit=many", "limit"),
        (&*format!("{client}/samples?from=1"), "from"),
        (&*format!("{client}/samples?step_s=0"), "step_s"),
        (&*format!("{client}/export?format=xml"), "format"),
        (&*format!("{client}?limit=1"), "limit"),
    ] {
        let problem = operator.get(path)?.problem(422, field);
        let problem = problem.context(path.to_owned())?;
        ensure!(problem["field"] == field, "{problem}");
    }

    Ok(())
}

pub(crate) fn rate() -> Result<()> {
    let scene = Scene::with(Family::V4, |server| server.rate(1, 5))?;
    let mut refused = None;
    for _ in 0..20 {
        let answer = scene.operator.get("/api/server")?;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.context("nobody has to wait")?;
    ensure!(refused.header("retry-after")?.parse::<u32>()? > 0);
    refused.problem(429, "too many requests")?;
    Ok(())
}
