//! The `Classic` service, for clients of the public specification that exist already.

use super::Front;
use super::Refusal;
use super::call::deadline;
use super::translate::{self, Done};
use crate::access::Access;
use crate::engine::Answer;
use crate::wal::split_words;
use raftkv::kv as wire;
use raftkv::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use std::sync::Arc;
use tonic::{Request, Response, Status};
use wire::ErrorReason;
use wire::classic_server::{Classic, ClassicServer};

/// In place of a leader's id.
const NO_LEADER: &str = "NULL";

/// Largest request: a key and a value as JSON, where a character of one byte may take six
/// (`\u0001`), and room for the verb. A value that is too large is refused by name up to there.
const MESSAGE_BYTES_MAX: usize = 6 * (KEY_BYTES_MAX + VALUE_BYTES_MAX) + 4096;

/// Most words of a request: `SET`, a key and a value.
const WORDS_MAX: usize = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct ClassicService {
    front: Arc<Front>,
}

impl ClassicService {
    pub(super) fn server(front: Arc<Front>) -> ClassicServer<Self> {
        ClassicServer::new(ClassicService { front }).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    async fn serve(
        &self,
        words: &[Arc<str>],
        access: &Access,
        deadline: tokio::time::Instant,
    ) -> Result<Done, Refusal> {
        match words {
            [verb, key, value] if &**verb == "SET" => {
                let set = wire::SetRequest {
                    request: None,
                    key: key.to_string(),
                    value: value.to_string(),
                };
                let set = translate::wanted(set.into())?;
                self.front.permit(access, &set)?;
                self.front.carry_out(set, deadline).await
            }
            [verb, key] if &**verb == "GET" => {
                let get = wire::GetRequest {
                    key: key.to_string(),
                    ..Default::default()
                };
                let get = translate::wanted(get.into())?;
                self.front.permit(access, &get)?;
                self.front.carry_out(get, deadline).await
            }
            _ => Err(Refusal::invalid(
                "expected 'SET key value' or 'GET key'; a word with spaces, quotes or anything \
                 but printable ASCII is written as a JSON string",
            )),
        }
    }

    fn success(&self, done: Done) -> wire::ServeClientReply {
        wire::ServeClientReply {
            data: match done {
                Done::Read {
                    answer: Answer::Value(Some(value)),
                    ..
                } => value.to_string(),
                _ => String::new(),
            },
            leader_id: self.front.identity.id.to_string(),
            success: true,
        }
    }

    /// What an old client gets on failure: the leader to go to, or nobody's name.
    fn failure(&self) -> wire::ServeClientReply {
        let leader = self.front.view.gate().leader;
        wire::ServeClientReply {
            data: String::new(),
            leader_id: leader.map_or(NO_LEADER.into(), |id| id.to_string()),
            success: false,
        }
    }
}

/// Whether to ask again, as an old client does after a failure, would be useless or make it worse: a
/// SET that took effect after all could undo, sent again, what another client has written since.
fn must_not_ask_again(reason: ErrorReason) -> bool {
    matches!(
        reason,
        ErrorReason::Invalid
            | ErrorReason::Overloaded
            | ErrorReason::DiskFull
            | ErrorReason::MembersRefused
            | ErrorReason::OutcomeUnknown
            | ErrorReason::NotAllowed
    )
}

#[tonic::async_trait]
impl Classic for ClassicService {
    async fn serve_client(
        &self,
        request: Request<wire::ServeClientArgs>,
    ) -> Result<Response<wire::ServeClientReply>, Status> {
        let deadline = deadline(request.metadata());
        let access = self.front.access(request.extensions());
        let words = split_words(&request.into_inner().request, WORDS_MAX).unwrap_or_default();
        let reply = match self.serve(&words, &access, deadline).await {
            Ok(done) => {
                let room = self.front.reply_room(translate::size_bytes(&done))?;
                return Ok(room.around(Response::new(self.success(done))));
            }
            Err(refusal) if must_not_ask_again(refusal.reason) => {
                return Err(refusal.into_status());
            }
            Err(refusal) => {
                // Its reply has no place for a reason.
                self.front.metrics.refused(refusal.reason);
                self.failure()
            }
        };
        Ok(Response::new(reply))
    }
}
