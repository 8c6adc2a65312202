//! The keys of links to pictures and of the page's sessions. With a database on a server, all nodes use the same ones,
//! which the first owner of the log has stored there.

use super::{ServiceOptions, StartError};
use crate::{
    config::{ShareError, SharedKey, StoredSettings},
    data_dir::DataDir,
    domain::{causes::with_causes, link_key::LinkKey, links::Links, session_key::SessionKey},
    store::Store,
    thumbnails::{self, LinkKeyError},
};

/// What the nodes with the same database share about the sessions of the page.
#[derive(Debug, Clone)]
pub struct SharedSessions {
    /// The key that signs them.
    pub key: SessionKey,
    /// The ids of those that were ended, and when they expire, as log time in seconds.
    pub ended: Vec<(String, i64)>,
}

/// The keys in use.
#[derive(Debug)]
pub(super) struct Keys {
    link: LinkKey,
    /// `None` if this node does not share its sessions with others.
    pub sessions: Option<SharedSessions>,
}

impl Keys {
    /// Returns the keys of this node, or those that all nodes with its database use. Creates and stores those that are
    /// missing. A shared key that this node cannot decrypt is logged; the node then uses its own.
    pub async fn open(
        options: &ServiceOptions,
        store: &Store,
        config: &StoredSettings,
        data_dir: &DataDir,
    ) -> Result<Self, StartError> {
        let own_link = || match &options.link_key {
            Some(given) => Ok(given.clone()),
            None => thumbnails::load_or_create(data_dir.path()),
        };
        if !store.is_on_server() {
            return Ok(Self { link: own_link()?, sessions: None });
        }
        let shared = config.shared_keys().await.map_err(StartError::SharedKeys)?;
        let (new_link, link) = match (shared.link, &options.link_key) {
            (SharedKey::Known(shared), Some(given)) if shared.expose() != given.expose() => {
                return Err(StartError::LinkKeyDiffers);
            }
            (SharedKey::Known(shared), _) => (None, shared),
            (SharedKey::Absent, _) => {
                let link = own_link()?;
                (Some(link.clone()), link)
            }
            (SharedKey::Unreadable(reason), _) => {
                tracing::warn!(reason, "links to pictures are valid only on this node");
                (None, own_link()?)
            }
        };
        let (new_session, session) = match shared.session {
            SharedKey::Known(shared) => (None, Some(shared)),
            SharedKey::Absent => {
                let session = SessionKey::generate().map_err(LinkKeyError::Random)?;
                (Some(session.clone()), Some(session))
            }
            SharedKey::Unreadable(reason) => {
                tracing::warn!(reason, "sessions of the page are valid only on this node");
                (None, None)
            }
        };
        if new_link.is_some() || new_session.is_some() {
            match config.share_keys(new_link.as_ref(), new_session.as_ref()).await {
                Ok(()) => {}
                Err(ShareError::Database(error)) => return Err(StartError::SharedKeys(error)),
                Err(error @ ShareError::Identity(_)) => {
                    tracing::warn!(error = %with_causes(&error), "the keys were not stored");
                }
            }
        }
        let ended = store.list_ended_sessions().await.map_err(StartError::SharedKeys)?;
        Ok(Self { link, sessions: session.map(|key| SharedSessions { key, ended }) })
    }

    /// Returns what signs links to pictures.
    pub fn links(&self, options: &ServiceOptions) -> Links {
        Links::new(&options.public_url, options.retention_days, self.link.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Service,
        domain::image::samples::JPEG,
        messages::thumbnails::{GetPictureStock, GetThumbnail},
        testing::database::TestDatabase,
    };

    /// A node with its own data directory. All have the same identity, unless it is replaced.
    fn node(
        database: &TestDatabase,
        dir: &tempfile::TempDir,
        identity: &tempfile::TempDir,
    ) -> ServiceOptions {
        ServiceOptions {
            identity_file: Some(identity.path().join("identity.age")),
            ..database.options(dir.path())
        }
    }

    /// Starts a node, and returns a signature with its link key, and its sessions.
    async fn keys(options: ServiceOptions) -> Result<(String, Option<SharedSessions>), StartError> {
        let service = Service::start(options).await?;
        let id = crate::EventId::parse("a").expect("it is valid");
        let url = service.handle().links.url(&id, crate::domain::clock::LogTime(0));
        let sessions = service.shared_sessions();
        service.stop().await;
        Ok((url, sessions))
    }

    fn dirs() -> [tempfile::TempDir; 3] {
        [0, 1, 2].map(|_| tempfile::tempdir().unwrap())
    }

    #[actix_rt::test(system = "crate::System")]
    async fn every_node_signs_links_and_sessions_with_the_keys_of_the_first_owner() {
        let (database, [first, second, identity]) = (TestDatabase::postgres(), dirs());
        let own = thumbnails::load_or_create(first.path()).unwrap();
        let one = keys(node(&database, &first, &identity)).await.unwrap();
        let two = keys(node(&database, &second, &identity)).await.unwrap();
        assert_eq!(one.0, two.0);
        let expected = Links::new("http://127.0.0.1:8080", 7, own)
            .url(&crate::EventId::parse("a").unwrap(), crate::domain::clock::LogTime(0));
        assert_eq!(one.0, expected, "the file of the first node had it");
        let exposed = |keys: &(String, Option<SharedSessions>)| *keys.1.as_ref().unwrap().key.expose();
        assert_eq!(exposed(&one), exposed(&two));
        assert!(!second.path().join(thumbnails::KEY_FILE).exists(), "it is not needed");
    }

    #[actix_rt::test(system = "crate::System")]
    async fn a_given_link_key_must_be_that_of_all_nodes() {
        let (database, [first, second, identity]) = (TestDatabase::postgres(), dirs());
        let given = LinkKey::generate().unwrap();
        let with = |dir: &tempfile::TempDir, link_key: Option<LinkKey>| ServiceOptions {
            link_key,
            ..node(&database, dir, &identity)
        };
        let one = keys(with(&first, Some(given.clone()))).await.unwrap();
        assert_eq!(keys(with(&second, None)).await.unwrap().0, one.0);
        assert_eq!(keys(with(&second, Some(given))).await.unwrap().0, one.0);
        let refused = keys(with(&second, Some(LinkKey::generate().unwrap()))).await.unwrap_err();
        assert!(matches!(refused, StartError::LinkKeyDiffers), "{refused:?}");
    }

    #[actix_rt::test(system = "crate::System")]
    async fn a_node_with_another_identity_starts_with_keys_of_its_own_and_replaces_none() {
        let (database, [first, second, identity]) = (TestDatabase::postgres(), dirs());
        let one = keys(node(&database, &first, &identity)).await.unwrap();
        let stranger = keys(node(&database, &second, &second)).await.unwrap();
        assert_ne!(stranger.0, one.0);
        assert!(stranger.1.is_none());
        assert!(!second.path().join("identity.age").exists(), "the keys need another identity");
        assert_eq!(keys(node(&database, &first, &identity)).await.unwrap().0, one.0);
    }

    #[actix_rt::test(system = "crate::System")]
    async fn a_file_shares_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (_, sessions) = keys(ServiceOptions::in_dir(dir.path())).await.unwrap();
        assert!(sessions.is_none() && dir.path().join(thumbnails::KEY_FILE).exists());
    }

    #[actix_rt::test(system = "crate::System")]
    async fn a_node_that_takes_over_has_the_pictures_of_the_lost_one() {
        let (database, [first, second, identity]) = (TestDatabase::postgres(), dirs());
        let get = async |service: &Service| {
            let get = GetThumbnail { event_id: crate::EventId::parse("a").unwrap(), width: None };
            service
                .handle()
                .get_thumbnail
                .send(get)
                .await
                .unwrap()
                .unwrap()
                .map(|stored| stored.picture.image)
        };
        let service = Service::start(node(&database, &first, &identity)).await.unwrap();
        let input = crate::EventInput {
            event_id: Some("a".to_owned()),
            camera_id: "door".to_owned(),
            description: "Somebody".to_owned(),
            ..crate::EventInput::default()
        };
        let event = crate::PublishEvent::new(input.validate().unwrap()).with_thumbnail(JPEG);
        service.handle().publish.send(event).await.unwrap().unwrap();
        assert_eq!(get(&service).await.as_deref(), Some(JPEG));
        service.stop().await;
        drop(first);
        let service = Service::start(node(&database, &second, &identity)).await.unwrap();
        assert_eq!(get(&service).await.as_deref(), Some(JPEG));
        let stock = service.handle().picture_stock.send(GetPictureStock).await.unwrap();
        assert_eq!(stock.stored, Some((1, JPEG.len() as u64)));
        assert!(!second.path().join(thumbnails::DIRECTORY).exists(), "it needs no files");
        service.stop().await;
    }
}
