//! HTTP requests from the host to a machine's forwarded ports.

use std::time::Duration;

use serde_json::Value;

/// A request with all its places filled in.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `POST`, ….
    pub method: String,
    /// Port on loopback.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Header lines.
    pub headers: Vec<(String, String)>,
    /// JSON body.
    pub body: Option<String>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The body: JSON where it is, else text.
    pub body: Value,
}

/// Sends a request and reads the whole answer within `limit`. The error says
/// what went wrong on the way; any status code is an answer.
pub fn send(request: &Request, limit: Duration) -> Result<Answer, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(limit))
        .max_redirects(0)
        .proxy(None)
        .build()
        .into();
    let mut builder = ureq::http::Request::builder()
        .method(request.method.as_str())
        .uri(format!("http://127.0.0.1:{}{}", request.port, request.path));
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    if request.body.is_some() {
        builder = builder.header("Content-Type", "application/json");
    }
    let body = request.body.clone().unwrap_or_default();
    let built = builder.body(body).map_err(|error| error.to_string())?;
    let mut response = agent.run(built).map_err(|error| error.to_string())?;
    let text = response
        .body_mut()
        .read_to_string()
        .map_err(|error| error.to_string())?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Answer {
        status: response.status().as_u16(),
        body,
    })
}
