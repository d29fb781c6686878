//! Each message between servers, in both directions.

use openraft::raft::{AppendEntriesRequest, StreamAppendError, VoteRequest, VoteResponse};
use proto::internal::v1 as pb;
use proto::storage::v1 as stored;
use tonic::Status;

use crate::encode::{self, log_id_from_proto, log_id_to_proto, vote_from_proto, vote_to_proto};
use crate::types::{LogId, TypeConfig, Vote};

/// What became of one request to append.
pub(crate) type Appended = Result<Option<LogId>, StreamAppendError<TypeConfig>>;

pub(crate) fn append_request(to: u64, request: AppendEntriesRequest<TypeConfig>) -> pb::AppendRequest {
    let entries = request.entries.iter().map(|entry| pb::Entry {
        term: entry.log_id.leader_id.term,
        index: entry.log_id.index,
        payload: encode::payload_to_bytes(&entry.payload),
    });
    pb::AppendRequest {
        to,
        vote: Some(vote_to_proto(&request.vote)),
        prev: request.prev_log_id.as_ref().map(log_id_to_proto),
        entries: entries.collect(),
        committed: request.leader_commit.as_ref().map(log_id_to_proto),
    }
}

pub(crate) fn append_request_from(message: pb::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    let entry = |entry: pb::Entry| {
        let at_rest = store::log::LogEntry { index: entry.index, term: entry.term, payload: entry.payload };
        encode::entry_from_log(at_rest).map_err(|error| Status::invalid_argument(error.to_string()))
    };
    Ok(AppendEntriesRequest {
        vote: vote_of(message.vote)?,
        prev_log_id: message.prev.map(log_id_from_proto),
        entries: message.entries.into_iter().map(entry).collect::<Result<_, _>>()?,
        leader_commit: message.committed.map(log_id_from_proto),
    })
}

pub(crate) fn append_response(result: &Appended) -> pb::AppendResponse {
    use pb::append_response::Result as Wire;
    let result = match result {
        Ok(last) => Wire::Matched(pb::Matched { last: last.as_ref().map(log_id_to_proto) }),
        Err(StreamAppendError::Conflict(at)) => Wire::Conflict(log_id_to_proto(at)),
        Err(StreamAppendError::HigherVote(vote)) => Wire::HigherVote(vote_to_proto(vote)),
    };
    pb::AppendResponse { result: Some(result) }
}

/// `None` when the message means nothing.
pub(crate) fn append_response_from(message: pb::AppendResponse) -> Option<Appended> {
    use pb::append_response::Result as Wire;
    Some(match message.result? {
        Wire::Matched(matched) => Ok(matched.last.map(log_id_from_proto)),
        Wire::Conflict(at) => Err(StreamAppendError::Conflict(log_id_from_proto(at))),
        Wire::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_from_proto(vote))),
    })
}

pub(crate) fn vote_request(to: u64, request: &VoteRequest<TypeConfig>, pre_vote: bool) -> pb::VoteRequest {
    pb::VoteRequest {
        to,
        vote: Some(vote_to_proto(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_to_proto),
        leadership_transfer: request.leadership_transfer,
        pre_vote,
    }
}

pub(crate) fn vote_request_from(message: pb::VoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
    let mut request = VoteRequest::new(vote_of(message.vote)?, message.last.map(log_id_from_proto));
    request.leadership_transfer = message.leadership_transfer;
    Ok(request)
}

pub(crate) fn vote_response(response: &VoteResponse<TypeConfig>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(vote_to_proto(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(log_id_to_proto),
    }
}

/// `None` when the message means nothing.
pub(crate) fn vote_response_from(message: pb::VoteResponse) -> Option<VoteResponse<TypeConfig>> {
    Some(VoteResponse::new(vote_from_proto(message.vote?), message.last.map(log_id_from_proto), message.granted))
}

/// The vote of a message that must have one.
pub(crate) fn vote_of(vote: Option<stored::Vote>) -> Result<Vote, Status> {
    vote.map(vote_from_proto)
        .ok_or_else(|| Status::invalid_argument("`vote` is not set: the request was not made by a server of this release"))
}
