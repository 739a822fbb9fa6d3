//! One HTTP/2 connection a node: made when first needed, kept, remade after it broke.

use std::time::Duration;

use raftkv::kv::kv_client::KvClient;
use tonic::transport::{Channel, Endpoint};

use super::{ClientError, connector};

/// A hung process (paused, swapping) keeps its connections open, and so does one that was cut off.
/// A living one that merely holds a request back, as a new leader does with writes while an older
/// lease may be alive, answers pings. So while a request is open, this long a silence is
/// questioned...
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(500);

/// ...and the connection given up when this long no answer comes.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// A list reply holds up to 4 MiB of keys and values, and their framing comes on top.
const REPLY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Large enough that a reply of the largest size needs no second round of flow control.
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// A channel to `host:port`. Connects when it is first used.
///
/// # Errors
/// [`ClientError::Invalid`] if the address is none.
pub fn channel(address: &str) -> Result<Channel, ClientError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| ClientError::Invalid(format!("address {address:?}: {error}")))?;
    Ok(endpoint
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect_with_connector_lazy(tower::service_fn(connector::connect)))
}

/// The typed API on `channel`.
pub fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX)
}
