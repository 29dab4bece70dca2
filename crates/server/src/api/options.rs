use std::time::Duration;

use axum::{Json, extract::State};
use perpacket_webrtc::{
    Overrides, PacketClass,
    udp::{Dscp, Ecn, MessageOptions, Tos},
};
use serde_json::Value;

use super::{
    App,
    auth::Operator,
    input::{Body, Named, Parameters},
};
use crate::{
    fields::{Field, FieldError, Fields},
    guard::{self, options_of},
    live::Found,
    model::{OptionsChange, OptionsView},
    problem::{Problem, ProblemDetails},
};

const CLASSES: &str = "stun, dtls, srtp, srtcp";
const DSCPS: &str = "a number 0..=63 or a name: CS0 to CS7, AF11 to AF43, EF, VA, LE";
const ECNS: &str = "not-ect, ect0, ect1, ce";

/// The options of a client: what is set, and what really goes out.
#[utoipa::path(
    get,
    path = "/api/clients/{id}/socket-options",
    tag = "options",
    params(("id" = String, Path, description = "the client's name")),
    responses(
        (status = 200, body = OptionsView),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("token" = []))
)]
pub(super) async fn get(
    State(app): State<App>,
    Named(id): Named<String>,
    parameters: Parameters,
) -> Result<Json<OptionsView>, Problem> {
    parameters.known(&[])?;
    let client = match app.live.find(&id) {
        Some(Found::Live(client)) => return Ok(Json(client.options())),
        Some(Found::Ended(client)) => *client,
        None => app
            .elsewhere(&id)
            .await?
            .ok_or_else(|| Problem::not_found("client"))?,
    };
    Ok(Json(OptionsView {
        asked: client.asked,
        applied: client.applied,
        guard: client.guard,
    }))
}

/// Changes options of a client, from the next packet on. A change that cuts the client off is taken back.
#[utoipa::path(
    post,
    path = "/api/clients/{id}/socket-options",
    tag = "options",
    params(("id" = String, Path, description = "the client's name")),
    request_body(content = OptionsChange, example = json!({"ttl": 10, "df_bit": true, "tos": 184})),
    responses(
        (status = 200, body = OptionsView),
        (status = 400, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = ProblemDetails, content_type = "application/problem+json", description = "the client has ended"),
        (status = 413, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("token" = []))
)]
pub(super) async fn set(
    State(app): State<App>,
    Operator(by): Operator,
    Named(id): Named<String>,
    parameters: Parameters,
    Body(body): Body,
) -> Result<Json<OptionsView>, Problem> {
    parameters.known(&[])?;
    let client = app.living(&id).await?;
    let asked = Asked::parse(&body)?;
    guard::change(
        &client,
        &app.notes,
        &by,
        asked.class,
        asked.revert_after,
        |before| {
            let mut after = before.clone();
            *options_mut(&mut after, asked.class) = asked.apply(options_of(before, asked.class));
            Ok(after)
        },
    )?;
    Ok(Json(client.options()))
}

/// Clears what is set for a client.
#[utoipa::path(
    delete,
    path = "/api/clients/{id}/socket-options",
    tag = "options",
    params(
        ("id" = String, Path, description = "the client's name"),
        ("class" = Option<String>, Query, pattern = "^(stun|dtls|srtp|srtcp)$", description = "only of this class: `stun`, `dtls`, `srtp` or `srtcp`"),
    ),
    responses(
        (status = 200, body = OptionsView),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = ProblemDetails, content_type = "application/problem+json", description = "the client has ended"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("token" = []))
)]
pub(super) async fn clear(
    State(app): State<App>,
    Operator(by): Operator,
    Named(id): Named<String>,
    parameters: Parameters,
) -> Result<Json<OptionsView>, Problem> {
    let parameters = parameters.known(&["class"])?;
    let class = parameters
        .text("class")
        .map(|name| class_of(name).ok_or_else(|| Problem::about("class", name.into(), CLASSES)))
        .transpose()?;
    let client = app.living(&id).await?;
    guard::change(&client, &app.notes, &by, class, None, |before| {
        if class.is_none() {
            return Ok(Overrides::default());
        }
        let mut after = before.clone();
        *options_mut(&mut after, class) = MessageOptions::NONE;
        Ok(after)
    })?;
    Ok(Json(client.options()))
}

/// One of the four that can be set here.
fn class_of(name: &str) -> Option<PacketClass> {
    let class = name.parse().ok()?;
    matches!(
        class,
        PacketClass::Stun | PacketClass::Dtls | PacketClass::Srtp | PacketClass::Srtcp
    )
    .then_some(class)
}

fn options_mut(overrides: &mut Overrides, class: Option<PacketClass>) -> &mut MessageOptions {
    match class {
        Some(class) => &mut overrides.classes[class.index()],
        None => &mut overrides.any,
    }
}

/// A change as it was asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    class: Option<PacketClass>,
    revert_after: Option<Duration>,
    ttl: Field<u8>,
    df_bit: Field<bool>,
    tos: Field<u8>,
    dscp: Field<Dscp>,
    ecn: Field<Ecn>,
}

impl Asked {
    fn parse(body: &Value) -> Result<Self, FieldError> {
        let fields = Fields::new(
            body,
            &[
                "ttl",
                "df_bit",
                "tos",
                "dscp",
                "ecn",
                "class",
                "revert_after_s",
            ],
        )?;
        let class = match fields.text("class", CLASSES)?.value() {
            Some(name) => {
                let class = class_of(name);
                Some(class.ok_or_else(|| FieldError::new("class", name.into(), CLASSES))?)
            }
            None => None,
        };
        let revert_after = fields.number::<u32>("revert_after_s", 1..=86_400)?.value();
        let asked = Self {
            class,
            revert_after: revert_after.map(|seconds| Duration::from_secs(seconds.into())),
            ttl: fields.number("ttl", 1..=255)?,
            df_bit: fields.boolean("df_bit")?,
            tos: fields.number("tos", 0..=255)?,
            dscp: fields.named("dscp", DSCPS)?,
            ecn: fields.named("ecn", ECNS)?,
        };
        for (name, given) in [
            ("dscp", asked.dscp != Field::LeftOut),
            ("ecn", asked.ecn != Field::LeftOut),
        ] {
            if given && asked.tos != Field::LeftOut {
                return Err(FieldError::excludes("tos", body["tos"].clone(), name));
            }
        }
        Ok(asked)
    }

    /// The options with what was asked for. Afterwards DSCP and ECN field stand apart, whichever way they were set, so
    /// that either can be changed alone.
    fn apply(&self, before: MessageOptions) -> MessageOptions {
        let whole = before.tos.map(Tos::from_byte);
        let mut after = MessageOptions {
            tos: None,
            dscp: before.dscp.or(whole.map(Tos::dscp)),
            ecn: before.ecn.or(whole.map(Tos::ecn)),
            ..before
        };
        put(&mut after.ttl, self.ttl);
        put(&mut after.df_bit, self.df_bit);
        let tos = self.tos.map(Tos::from_byte);
        put(&mut after.dscp, tos.map(Tos::dscp));
        put(&mut after.ecn, tos.map(Tos::ecn));
        put(&mut after.dscp, self.dscp);
        put(&mut after.ecn, self.ecn);
        after
    }
}

fn put<T>(field: &mut Option<T>, asked: Field<T>) {
    match asked {
        Field::LeftOut => {}
        Field::Null => *field = None,
        Field::Value(value) => *field = Some(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn after(before: MessageOptions, body: &Value) -> MessageOptions {
        Asked::parse(body).expect("valid").apply(before)
    }

    #[test]
    fn a_change_leaves_clears_and_sets() {
        let nothing = MessageOptions::NONE;
        let set = after(nothing, &json!({"ttl": 10, "df_bit": true, "tos": 184}));
        assert_eq!((set.ttl, set.df_bit), (Some(10), Some(true)));
        assert_eq!(set.tos_byte(), Some(184));
        assert_eq!(after(set, &json!({})), set);
        let ecn = after(set, &json!({"ecn": "ect0"}));
        assert_eq!(ecn.tos_byte(), Some(186));
        let no_dscp = after(ecn, &json!({"dscp": null}));
        assert_eq!(no_dscp.tos_byte(), Some(2));
        assert_eq!(after(no_dscp, &json!({"ecn": null})).tos_byte(), None);
        assert_eq!(after(ecn, &json!({"tos": null})).tos_byte(), None);
        let by_name = after(nothing, &json!({"dscp": "af41"}));
        assert_eq!(by_name.tos_byte(), Some(34 << 2));
        assert_eq!(after(nothing, &json!({"dscp": 46})).dscp, Some(Dscp::EF));
        let cleared = after(set, &json!({"ttl": null, "df_bit": null, "tos": null}));
        assert_eq!(cleared, nothing);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (body, field) in [
            (json!({"ttl": 0}), "ttl"),
            (json!({"ttl": 256}), "ttl"),
            (json!({"ttl": -1}), "ttl"),
            (json!({"ttl": "10"}), "ttl"),
            (json!({"df_bit": "yes"}), "df_bit"),
            (json!({"tos": 256}), "tos"),
            (json!({"tos": 8, "dscp": "EF"}), "tos"),
            (json!({"tos": null, "ecn": "ce"}), "tos"),
            (json!({"dscp": 64}), "dscp"),
            (json!({"dscp": "AF99"}), "dscp"),
            (json!({"dscp": [46]}), "dscp"),
            (json!({"ecn": "ect2"}), "ecn"),
            (json!({"class": "turn"}), "class"),
            (json!({"class": 1}), "class"),
            (json!({"revert_after_s": 0}), "revert_after_s"),
            (json!({"revert_after_s": 86_401}), "revert_after_s"),
            (json!({"hops": 3}), "hops"),
            (json!("ttl"), "body"),
        ] {
            let error = Asked::parse(&body).expect_err("refused");
            assert_eq!(error.field, field, "{body}: {error}");
        }
    }
}
