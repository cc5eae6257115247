//! What can be asked of a store: the verb for messages, the permission it needs, its class.

use crate::traffic::Request;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Put,
    CreateUpload,
    UploadPart,
    CompleteUpload,
    AbortUpload,
    ListUploads,
    Get,
    Head,
    List,
    Delete,
    ListVersions,
    GetVersion,
    DeleteVersion,
    GetRetention,
    PutRetention,
    GetLockSettings,
    GetVersioning,
}

impl Action {
    /// The verb, as in "cannot write".
    pub(super) fn verb(self) -> &'static str {
        match self {
            Action::Put | Action::CreateUpload | Action::UploadPart | Action::CompleteUpload => {
                "write"
            }
            Action::AbortUpload => "give up the upload of",
            Action::ListUploads => "list unfinished uploads of",
            Action::Get | Action::GetVersion => "read",
            Action::Head => "examine",
            Action::List => "list",
            Action::Delete | Action::DeleteVersion => "delete",
            Action::ListVersions => "list the versions of",
            Action::GetRetention => "read the retention of",
            Action::PutRetention => "extend the retention of",
            Action::GetLockSettings => "read the object lock settings of",
            Action::GetVersioning => "read the versioning of",
        }
    }

    /// The permission of a policy that it needs.
    pub(super) fn permission(self) -> &'static str {
        match self {
            Action::Put | Action::CreateUpload | Action::UploadPart | Action::CompleteUpload => {
                "s3:PutObject"
            }
            Action::AbortUpload => "s3:AbortMultipartUpload",
            Action::ListUploads => "s3:ListBucketMultipartUploads",
            Action::Get | Action::Head => "s3:GetObject",
            Action::List => "s3:ListBucket",
            Action::Delete => "s3:DeleteObject",
            Action::ListVersions => "s3:ListBucketVersions",
            Action::GetVersion => "s3:GetObjectVersion",
            Action::DeleteVersion => "s3:DeleteObjectVersion",
            Action::GetRetention => "s3:GetObjectRetention",
            Action::PutRetention => "s3:PutObjectRetention",
            Action::GetLockSettings => "s3:GetBucketObjectLockConfiguration",
            Action::GetVersioning => "s3:GetBucketVersioning",
        }
    }

    /// Whether the permission is one on the bucket, not on its objects.
    pub(super) fn is_of_bucket(self) -> bool {
        matches!(
            self,
            Action::List
                | Action::ListUploads
                | Action::ListVersions
                | Action::GetLockSettings
                | Action::GetVersioning
        )
    }

    /// Whether it only takes away what nobody needs any more.
    pub(super) fn tidies_up(self) -> bool {
        matches!(self, Action::ListUploads | Action::AbortUpload)
    }

    /// Whether it is still asked after the user wanted to stop: a lease that stays holds up others.
    pub(super) fn outlives_a_stop(self) -> bool {
        matches!(self, Action::Delete | Action::AbortUpload)
    }

    /// What stores price it as.
    pub(super) fn class(self) -> Request {
        match self {
            Action::Put
            | Action::CreateUpload
            | Action::UploadPart
            | Action::CompleteUpload
            | Action::PutRetention => Request::Put,
            Action::List | Action::ListUploads | Action::ListVersions => Request::List,
            Action::Get | Action::GetVersion | Action::GetLockSettings | Action::GetVersioning => {
                Request::Get
            }
            Action::Head | Action::GetRetention => Request::Head,
            Action::Delete | Action::DeleteVersion | Action::AbortUpload => Request::Delete,
        }
    }
}
