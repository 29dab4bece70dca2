//! What the REST API is: for programs as `OpenAPI`, for people as a page.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    Router,
    http::header::CONTENT_TYPE,
    response::{Html, IntoResponse as _},
    routing::get,
};
use serde_json::Value;
use utoipa::{
    OpenApi, ToSchema as _,
    openapi::{
        self, ContentBuilder, Ref, RefOr, ResponseBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::App;
use crate::problem::ProblemDetails;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "perpacket",
        description = "Each client's path, and what its packets look like. Errors are problem details (RFC 9457).",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "clients", description = "Peer connections, from their offer to their end."),
        (name = "options", description = "What the IP header of a client's packets is to say."),
        (name = "measurements", description = "Where a client's path goes, how large a packet it carries, what it does with marks."),
        (name = "events", description = "What happens, while it happens."),
        (name = "history", description = "What was."),
        (name = "server", description = "The server itself."),
        (name = "measured", description = "What a client may see of itself. No token is needed."),
    )
)]
pub(super) struct Document;

/// What any operation may answer, and what that says.
const ANY: [(&str, &str); 2] = [
    ("403", "a page of another origin may not ask"),
    (
        "429",
        "too many requests from this address; `Retry-After` says when to come back",
    ),
];

/// Says how to prove that one may, and what any operation may answer, and gives each a name that no other has.
pub(super) fn finish(document: &mut openapi::OpenApi) {
    let problem = |text: &str| {
        let details = Ref::from_schema_name(ProblemDetails::name());
        let content = ContentBuilder::new().schema(Some(details)).build();
        ResponseBuilder::new()
            .description(text)
            .content("application/problem+json", content)
            .build()
    };
    for (path, item) in &mut document.paths.paths {
        let operations = [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("delete", &mut item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            operation.operation_id = Some(name(method, path));
            let secured = operation.security.is_some();
            let token = secured.then_some(("401", "no token, or a wrong one"));
            for (status, text) in ANY.into_iter().chain(token) {
                let responses = &mut operation.responses.responses;
                responses.insert(status.to_owned(), RefOr::T(problem(text)));
            }
        }
    }
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "The token that `perpacket serve` prints when it is first started.",
        ))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(scheme));
}

/// `get_api_clients_id`
fn name(method: &str, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = [method]
        .into_iter()
        .chain(words.filter(|word| !word.is_empty()))
        .collect();
    words.join("_")
}

/// The document as it is served. It says nothing that 3.1 has not, which is what most programs read.
fn json(document: &openapi::OpenApi) -> Value {
    let mut json = serde_json::to_value(document).unwrap_or_default();
    json["openapi"] = "3.1.0".into();
    json
}

pub(super) fn router(document: &openapi::OpenApi) -> Router<App> {
    let json = json(document);
    let page: Arc<str> = page(&json).into();
    let text: Arc<str> = json.to_string().into();
    Router::new()
        .route(
            "/api/openapi.json",
            get(async move || {
                ([(CONTENT_TYPE, "application/json")], text.to_string()).into_response()
            }),
        )
        .route("/api/docs", get(async move || Html(page.to_string())))
}

const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

/// All of it on one page, without a script.
fn page(document: &Value) -> String {
    let mut page = String::from(concat!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">",
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
        "<title>perpacket: the REST API</title><link rel=\"icon\" href=\"/assets/icon.svg\">",
        "<link rel=\"stylesheet\" href=\"/assets/style.css\"></head><body><main>",
        "<h1>The REST API</h1>",
    ));
    paragraph(&mut page, &document["info"]["description"]);
    page.push_str(concat!(
        "<p>Operators say <code>Authorization: Bearer TOKEN</code>. ",
        "For programs: <a href=\"/api/openapi.json\">OpenAPI</a>.</p>",
    ));
    let tags = document["tags"].as_array().into_iter().flatten();
    for tag in tags {
        let name = tag["name"].as_str().unwrap_or_default();
        let _ = write!(page, "<h2>{}</h2>", escaped(name));
        paragraph(&mut page, &tag["description"]);
        let paths = document["paths"].as_object().into_iter().flatten();
        for (path, item) in paths {
            for method in METHODS {
                let operation = &item[method];
                if operation["tags"][0] == name {
                    describe(&mut page, method, path, operation);
                }
            }
        }
    }
    page.push_str("<h2>What is in the bodies</h2>");
    let schemas = document["components"]["schemas"].as_object();
    for (name, schema) in schemas.into_iter().flatten() {
        let name = escaped(name);
        let _ = write!(page, "<h3 id=\"{name}\">{name}</h3>");
        paragraph(&mut page, &schema["description"]);
        fields(&mut page, schema);
    }
    page.push_str("</main></body></html>");
    page
}

fn describe(page: &mut String, method: &str, path: &str, operation: &Value) {
    let method = method.to_uppercase();
    let _ = write!(page, "<h3><code>{method} {}</code></h3>", escaped(path));
    let text = match &operation["description"] {
        Value::Null => &operation["summary"],
        description => description,
    };
    paragraph(page, text);
    page.push_str("<dl>");
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap_or_default();
        let text = parameter["description"].as_str().unwrap_or_default();
        let _ = write!(
            page,
            "<dt><code>{}</code></dt><dd>{}</dd>",
            escaped(name),
            marked(text)
        );
    }
    if let Some(body) = reference(&operation["requestBody"]["content"]["application/json"]) {
        let _ = write!(page, "<dt>body</dt><dd>{body}</dd>");
    }
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let content = response["content"].as_object().into_iter().flatten();
        let bodies: Vec<_> = content
            .map(|(kind, content)| reference(content).unwrap_or_else(|| escaped(kind)))
            .collect();
        let text = response["description"].as_str().unwrap_or_default();
        let _ = write!(
            page,
            "<dt>{}</dt><dd>{} {}</dd>",
            escaped(status),
            bodies.join(", "),
            marked(text)
        );
    }
    page.push_str("</dl>");
}

/// A link to the schema of a body.
fn reference(content: &Value) -> Option<String> {
    let name = content["schema"]["$ref"].as_str()?.rsplit('/').next()?;
    let name = escaped(name);
    Some(format!("<a href=\"#{name}\">{name}</a>"))
}

fn fields(page: &mut String, schema: &Value) {
    page.push_str("<dl>");
    let parts = schema["allOf"].as_array().into_iter().flatten();
    for part in parts.chain([schema]) {
        if let Some(part) = reference(&serde_json::json!({ "schema": part })) {
            let _ = write!(page, "<dt>all of</dt><dd>{part}</dd>");
        }
        for (name, field) in part["properties"].as_object().into_iter().flatten() {
            let text = field["description"].as_str().unwrap_or_default();
            let _ = write!(
                page,
                "<dt><code>{}</code></dt><dd>{}</dd>",
                escaped(name),
                marked(text)
            );
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<_> = values
            .iter()
            .filter_map(Value::as_str)
            .map(escaped)
            .collect();
        let _ = write!(page, "<dt>one of</dt><dd>{}</dd>", values.join(", "));
    }
    page.push_str("</dl>");
}

fn paragraph(page: &mut String, text: &Value) {
    if let Some(text) = text.as_str() {
        let _ = write!(page, "<p>{}</p>", marked(text));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// With what stands between backticks as code.
fn marked(text: &str) -> String {
    let parts = escaped(text);
    let mut marked = String::new();
    for (index, part) in parts.split('`').enumerate() {
        if index % 2 == 1 {
            let _ = write!(marked, "<code>{part}</code>");
        } else {
            marked.push_str(part);
        }
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_names() {
        let path = "/api/clients/{id}/socket-options";
        assert_eq!(name("get", path), "get_api_clients_id_socket_options");
    }

    #[test]
    fn text_is_text() {
        assert_eq!(marked("a < `b & c` d"), "a &lt; <code>b &amp; c</code> d");
        assert_eq!(escaped("<script>\""), "&lt;script&gt;&quot;");
    }
}
