//! How much of the server a request or a client may take, and the body of a request read within that.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::error::{ApiError, ApiResult};

/// Bytes beyond the limit of a body that are read and thrown away.
const MOST_DISCARDED: usize = 32 << 20;

/// The limits of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time. A new one beyond that closes another: one that has long not asked, else the oldest.
    pub connections: usize,
    /// Time until the whole head of a request is there, from the end of the answer before it.
    pub head: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Time until the whole body of a request is there.
    pub body: Duration,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Time for which a client may take nothing of its answer.
    pub stall: Duration,
    /// Time from a request to the end of its answer, waiting included.
    pub answer: Duration,
    /// Rows of a request.
    pub rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Limits {
            connections: 512,
            head: seconds(10),
            head_bytes: 32 * 1024,
            body: seconds(30),
            body_bytes: 4 << 20,
            stall: seconds(20),
            answer: seconds(600),
            rows: 1024,
        }
    }
}

impl Limits {
    /// The body of a request. What is too long is read to its end as well, within reason: a client that still sends would miss
    /// the answer.
    ///
    /// # Errors
    /// 413 for one that is too long, 408 for one that is too slow, 400 for one that breaks off.
    pub async fn read(&self, body: Body) -> ApiResult<Vec<u8>> {
        match tokio::time::timeout(self.body, self.collect(body)).await {
            Ok(read) => read,
            Err(_) => {
                let message = format!("the body of the request was not there within {} s", self.body.as_secs());
                Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message))
            }
        }
    }

    async fn collect(&self, body: Body) -> ApiResult<Vec<u8>> {
        let mut pieces = body.into_data_stream();
        let (mut bytes, mut length) = (Vec::new(), 0usize);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|_| ApiError::bad("the body of the request broke off"))?;
            length = length.saturating_add(piece.len());
            if length <= self.body_bytes {
                bytes.extend_from_slice(&piece);
            } else if length > self.body_bytes.saturating_add(MOST_DISCARDED) {
                break;
            } else {
                bytes = Vec::new();
            }
        }
        if length <= self.body_bytes {
            return Ok(bytes);
        }
        let message = format!("the body of the request has more than {} bytes; send fewer rows at a time", self.body_bytes);
        Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message))
    }
}

/// The body of a request as this type.
///
/// # Errors
/// 400, with what is wrong and where.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> ApiResult<T> {
    serde_json::from_slice(body).map_err(|e| {
        let what = if e.is_data() { "cannot be used" } else { "is no JSON" };
        ApiError::bad(format!("the body of the request {what}: {e}"))
    })
}
