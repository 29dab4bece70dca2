//! The pages and what they are made of, which the program has in itself.

use std::{collections::HashMap, path::Path};

use axum::{
    Router,
    body::Bytes,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
    },
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use include_dir::{Dir, include_dir};
use sha2::{Digest as _, Sha256};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/assets");

/// The pages, and where they are.
const PAGES: [(&str, &str); 5] = [
    ("/", "index.html"),
    ("/dashboard", "dashboard.html"),
    // Where it is in the dashboard stands behind that, for links.
    ("/dashboard/", "dashboard.html"),
    ("/dashboard/{*rest}", "dashboard.html"),
    ("/r/{share}", "result.html"),
];

/// Each page, and every file below `/assets`.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let mut files = HashMap::new();
    collect(&FILES, &mut files);
    let mut router = Router::new();
    for (at, name) in PAGES {
        if let Some(file) = files.get(name) {
            router = router.route(at, serve(file.clone()));
        }
    }
    for (name, file) in files {
        router = router.route(&format!("/assets/{name}"), serve(file));
    }
    router
}

/// A file as it is sent.
#[derive(Clone, Debug)]
struct File {
    contents: Bytes,
    kind: &'static str,
    tag: HeaderValue,
}

impl File {
    fn new(name: &str, contents: &'static [u8]) -> Option<Self> {
        // 96 bits tell two versions of a file apart.
        let tag = URL_SAFE_NO_PAD.encode(&Sha256::digest(contents)[..12]);
        Some(Self {
            contents: Bytes::from_static(contents),
            kind: kind(name),
            tag: HeaderValue::try_from(format!("\"{tag}\"")).ok()?,
        })
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        // RFC 9110 §13.1.2; nobody else makes weak ones of these.
        let known = headers.get_all(IF_NONE_MATCH).iter().any(|value| {
            let tags = value.as_bytes().split(|byte| *byte == b',');
            tags.map(<[u8]>::trim_ascii)
                .any(|tag| tag == self.tag.as_bytes() || tag == b"*")
        });
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            self.contents.clone().into_response()
        };
        let answer = response.headers_mut();
        answer.insert(ETAG, self.tag.clone());
        // A new version of the program is seen at once.
        answer.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        answer.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        response
    }
}

fn serve<S: Clone + Send + Sync + 'static>(file: File) -> MethodRouter<S> {
    get(async move |headers: HeaderMap| file.answer(&headers))
}

fn collect(folder: &'static Dir<'_>, files: &mut HashMap<String, File>) {
    for file in folder.files() {
        let name = file.path().to_string_lossy().replace('\\', "/");
        if let Some(file) = File::new(&name, file.contents()) {
            files.insert(name, file);
        }
    }
    for folder in folder.dirs() {
        collect(folder, files);
    }
}

fn kind(name: &str) -> &'static str {
    let extension = Path::new(name).extension().and_then(|it| it.to_str());
    match extension.unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" => "application/json",
        "woff2" => "font/woff2",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_there() {
        let mut files = HashMap::new();
        collect(&FILES, &mut files);
        for (_, name) in PAGES {
            assert!(files.contains_key(name), "{name}");
        }
        // That no two routes are at odds with each other.
        let _: Router = router();
    }

    #[test]
    fn a_file_that_is_known_is_not_sent_again() {
        let file = File::new("a.js", b"export {};").expect("a file");
        let mut headers = HeaderMap::new();
        assert_eq!(file.answer(&headers).status(), StatusCode::OK);
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("\"other\""));
        assert_eq!(file.answer(&headers).status(), StatusCode::OK);
        let both = format!("\"other\", {}", file.tag.to_str().expect("text"));
        headers.insert(IF_NONE_MATCH, both.parse().expect("a header"));
        assert_eq!(file.answer(&headers).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(
            kind("vendor/uPlot.esm.js"),
            "text/javascript; charset=utf-8"
        );
    }
}
