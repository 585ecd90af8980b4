//! What a refused request had still to say. An answer that comes before the end of the body closes the stream (HTTP/2) or
//! the connection (HTTP/1.1), and a client that is still sending may tell of that and not of the answer. So a little of the
//! rest is read and thrown away first.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::StreamExt;
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;

/// How much of a body is thrown away, in bytes, and how long that may take; what is larger is cut off.
const MOST: usize = 64 << 20;
const LONGEST: Duration = Duration::from_secs(5);

/// A body that comes back when its reader lets go of it.
struct Lent {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            let _ = back.send(std::mem::take(&mut self.body));
        }
    }
}

/// Reads the rest of a refused request's body before the refusal is sent.
pub async fn discard(request: Request, next: Next) -> Response {
    let (back, mut returned) = oneshot::channel();
    let request = request.map(|body| Body::new(Lent { body, back: Some(back) }));
    let response = next.run(request).await;
    if !response.status().is_success()
        && let Ok(body) = returned.try_recv()
    {
        let _ = tokio::time::timeout(LONGEST, read_away(body)).await;
    }
    response
}

async fn read_away(body: Body) {
    let mut chunks = body.into_data_stream();
    let mut read = 0;
    while let Some(Ok(chunk)) = chunks.next().await {
        read += chunk.len();
        if read > MOST {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::post;
    use futures_util::stream;
    use tower::ServiceExt;

    use super::*;

    const CHUNK: usize = 1 << 20;

    /// How many bytes are read of the body of a request that is refused.
    async fn read_of(chunks: usize) -> usize {
        let read = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&read);
        let body = stream::iter(0..chunks).map(move |_| {
            counter.fetch_add(CHUNK, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from_static(&[0; CHUNK]))
        });
        let router = Router::new()
            .route("/", post(async |_: Request| StatusCode::UNSUPPORTED_MEDIA_TYPE))
            .layer(axum::middleware::from_fn(discard));
        let request = Request::post("/").body(Body::from_stream(body)).unwrap();
        assert_eq!(router.oneshot(request).await.unwrap().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        read.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn the_rest_is_read_up_to_a_limit() {
        assert_eq!(read_of(3).await, 3 * CHUNK);
        assert_eq!(read_of(1000).await, MOST + CHUNK);
    }
}
