//! The HTTP client: one connection to the gateway, whose own CA is the only one trusted.

use std::time::Duration;

use magrathea_core::api::{Credentials, ErrorBody};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Method, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exit::{Exit, Failure};
use crate::stream;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For requests that answer from the database.
const TIMEOUT: Duration = Duration::from_secs(30);
/// For requests that carry a source or take an app away.
pub const LONG_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Talks to one gateway as one person.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    /// For websockets, which begin as HTTP/1.1.
    upgrading: reqwest::Client,
    base: Url,
    /// None: whoever asks is nobody yet.
    token: Option<HeaderValue>,
}

/// A request's query, as in `[("limit", "20".into())]`.
pub type Query = Vec<(String, String)>;

impl Client {
    pub fn new(credentials: &Credentials) -> Result<Self, Failure> {
        let mut token = HeaderValue::try_from(format!("Bearer {}", credentials.token))
            .map_err(|_| Failure::say(Exit::NotAllowed, "the token holds characters that no token has"))?;
        token.set_sensitive(true);
        let client = Client::anonymous(&credentials.gateway, &credentials.ca)?;
        Ok(Client { token: Some(token), ..client })
    }

    /// Talks to a gateway before anybody is logged in.
    pub fn anonymous(gateway: &str, ca: &str) -> Result<Self, Failure> {
        let ca = Certificate::from_pem_bundle(ca.as_bytes())
            .map_err(|_| Failure::say(Exit::NotAllowed, "the credentials hold no CA certificate in PEM form"))?;
        Client::build(gateway, || reqwest::Client::builder().tls_certs_only([ca.clone()].into_iter().flatten()))
    }

    /// Talks to whoever answers: only to learn a certificate, whose fingerprint is then compared.
    pub fn unverified(gateway: &str) -> Result<Self, Failure> {
        Client::build(gateway, || reqwest::Client::builder().tls_danger_accept_invalid_certs(true))
    }

    fn build(gateway: &str, trusting: impl Fn() -> reqwest::ClientBuilder) -> Result<Self, Failure> {
        let bad = |what: &str| {
            Failure::usage(format!("the gateway's address {what}: {gateway:?}"))
                .hint("write it as in https://gateway.example:7443")
        };
        let base = Url::parse(gateway).map_err(|_| bad("is not a URL"))?;
        if base.scheme() != "https" {
            return Err(bad("does not start with https://"));
        }
        let builder = || {
            let builder = trusting()
                .user_agent(concat!("td/", env!("CARGO_PKG_VERSION")))
                .https_only(true)
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT);
            let local = base.host_str().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]"));
            if local { builder.no_proxy() } else { builder }
        };
        let built = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| Failure::say(Exit::Failed, root_cause(&error)))
        };
        Ok(Client { http: built(builder())?, upgrading: built(builder().http1_only())?, base, token: None })
    }

    /// The address of `/v1/SEGMENT/…`; every segment is escaped, so no name reaches another route.
    fn url(&self, segments: &[&str], query: &Query) -> Result<Url, Failure> {
        if segments.iter().any(|segment| segment.is_empty() || matches!(*segment, "." | "..")) {
            return Err(Failure::usage("a name is empty"));
        }
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    fn request(&self, method: Method, segments: &[&str], query: &Query) -> Result<reqwest::RequestBuilder, Failure> {
        let url = self.url(segments, query)?;
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.header(AUTHORIZATION, token.clone()),
            None => request,
        })
    }

    pub async fn get<T: DeserializeOwned>(&self, segments: &[&str], query: &Query) -> Result<T, Failure> {
        let request = self.request(Method::GET, segments, query)?.timeout(TIMEOUT);
        decode(&self.send(request).await?.bytes().await?)
    }

    /// For what takes as long as it takes to add up a month.
    pub async fn get_long<T: DeserializeOwned>(&self, segments: &[&str], query: &Query) -> Result<T, Failure> {
        let request = self.request(Method::GET, segments, query)?.timeout(LONG_TIMEOUT);
        decode(&self.send(request).await?.bytes().await?)
    }

    /// The same for what changes something.
    pub async fn post_long<T: DeserializeOwned>(&self, segments: &[&str], body: &impl Serialize) -> Result<T, Failure> {
        let request = self.request(Method::POST, segments, &Query::new())?.json(body).timeout(LONG_TIMEOUT);
        decode(&self.send(request).await?.bytes().await?)
    }

    /// Sends a JSON body and reads what is stored now.
    pub async fn put<T: DeserializeOwned>(&self, segments: &[&str], body: &impl Serialize) -> Result<T, Failure> {
        self.put_with(segments, &Query::new(), body).await
    }

    pub async fn put_with<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &Query,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let request = self.request(Method::PUT, segments, query)?.json(body).timeout(TIMEOUT);
        decode(&self.send(request).await?.bytes().await?)
    }

    /// Sends a JSON body and reads what was made.
    pub async fn post<T: DeserializeOwned>(&self, segments: &[&str], body: &impl Serialize) -> Result<T, Failure> {
        self.post_with(segments, &Query::new(), body).await
    }

    pub async fn post_with<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &Query,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let request = self.request(Method::POST, segments, query)?.json(body).timeout(TIMEOUT);
        decode(&self.send(request).await?.bytes().await?)
    }

    pub async fn delete(&self, segments: &[&str], query: &Query) -> Result<(), Failure> {
        let request = self.request(Method::DELETE, segments, query)?.timeout(LONG_TIMEOUT);
        self.send(request).await.map(drop)
    }

    /// Takes something away and reads what that ended.
    pub async fn delete_for<T: DeserializeOwned>(&self, segments: &[&str], query: &Query) -> Result<T, Failure> {
        let request = self.request(Method::DELETE, segments, query)?.timeout(LONG_TIMEOUT);
        decode(&self.send(request).await?.bytes().await?)
    }

    /// Sends a source archive while it is being made. The outer error means that no answer came: with the same
    /// idempotency key the request may be repeated.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &Query,
        body: reqwest::Body,
    ) -> Result<Result<T, Failure>, reqwest::Error> {
        let request = match self.request(Method::POST, segments, query) {
            Ok(request) => request.header(CONTENT_TYPE, "application/zstd").timeout(LONG_TIMEOUT).body(body),
            Err(failure) => return Ok(Err(failure)),
        };
        let response = request.send().await?;
        let response = match accept(response).await {
            Ok(response) => response,
            Err(failure) => return Ok(Err(failure)),
        };
        Ok(decode(&response.bytes().await?))
    }

    /// Opens a stream that lives as long as the gateway has something to say.
    pub async fn stream(&self, segments: &[&str], query: &Query) -> Result<Result<Response, Failure>, reqwest::Error> {
        match self.request(Method::GET, segments, query) {
            Ok(request) => Ok(accept(request.send().await?).await),
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// Opens a stream of frames.
    pub async fn websocket(
        &self,
        segments: &[&str],
        query: &Query,
    ) -> Result<(stream::Sender, stream::Receiver), Failure> {
        let mut request = self.upgrading.get(self.url(segments, query)?);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        stream::open(request, accept, |error| self.unreachable(error)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, Failure> {
        accept(request.send().await.map_err(|error| self.unreachable(&error))?).await
    }

    /// What a request that got no answer comes to.
    pub fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let base = self.base.as_str().trim_end_matches('/');
        if error.is_timeout() && !error.is_connect() {
            return Failure::say(Exit::Unreachable, format!("the gateway at {base} did not answer in time"));
        }
        let cause = anyhow::Error::msg(root_cause(error));
        let hint = if cause.to_string().contains("certificate") {
            "its certificate is not from the CA in your credentials; were they made for another gateway?"
        } else {
            "is it running? `make run` starts one on this machine; --gateway or TD_GATEWAY names another"
        };
        Failure::new(Exit::Unreachable, cause.context(format!("the gateway at {base} cannot be reached"))).hint(hint)
    }
}

/// The innermost cause: what is between is the HTTP stack's own anatomy.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Passes a good answer on; a bad one becomes the failure it tells of.
async fn accept(response: Response) -> Result<Response, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.bytes().await.unwrap_or_default();
    Err(match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(body) => Failure::from_api(status.as_u16(), body),
        Err(_) => Failure::say(Exit::Failed, format!("the gateway answered {status} without saying why"))
            .hint("is this address a Magrathea gateway of the same version as td?"),
    })
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    // An empty body is JSON's null: some acts answer nothing.
    let body = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(body).map_err(Failure::not_understood)
}
