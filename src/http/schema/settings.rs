//! The MQTT settings as a request body: like the served ones, but with the secrets, and with every field
//! optional.

use std::borrow::Cow;

use liveobject_actors::MqttSettings;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Object, ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, Type,
        schema::{AdditionalProperties, SchemaType},
    },
};

/// The body of a request that sets or tests the MQTT settings.
pub(in crate::http) struct SettingsInput;

impl ToSchema for SettingsInput {
    fn name() -> Cow<'static, str> {
        "MqttSettingsInput".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        MqttSettings::schemas(schemas);
    }
}

impl PartialSchema for SettingsInput {
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(mut input)) = MqttSettings::schema() else {
            unreachable!("the schema of a struct without flattened fields is an object");
        };
        input.description = Some(
            "MQTT settings. Omitted fields take their default values; omitted secrets are kept.".to_owned(),
        );
        for (name, max_length, description) in [
            ("password", 65_535, "If absent, the stored one is kept; `null` removes it. Never returned."),
            (
                "client_key",
                65_536,
                "The private key of the client certificate (PEM: PKCS#8, PKCS#1 or SEC1, without a passphrase). \
                 If absent, the stored one is kept; `null` removes it. Never returned.",
            ),
        ] {
            let secret = ObjectBuilder::new()
                .schema_type(Type::String)
                .max_length(Some(max_length))
                .write_only(true)
                .description(Some(description));
            input.properties.insert(name.to_owned(), secret.into());
        }
        for (name, description) in [
            (
                "broker_port",
                "If absent, the default port: 1883, or 8883 with TLS; for WebSockets 80, or 443 with TLS.",
            ),
            (
                "protocol",
                "`auto` is MQTT 5, or 3.1.1 if the broker rejects version 5. Version 5 is tried again a day \
                 later, when the settings change, and at startup.",
            ),
            ("transport", "Use `websocket` for a broker behind an HTTP reverse proxy."),
            ("use_tls", "Whether to encrypt the connection. The other TLS settings require it."),
        ] {
            describe(input.properties.get_mut(name), description);
        }
        insert_defaults(&mut input);
        input.required.clear();
        input.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        input.properties.values_mut().for_each(allow_null);
        RefOr::T(Schema::Object(input))
    }
}

/// Inserts the default of each setting. The client id has none, because it is generated.
pub(in crate::http) fn insert_defaults(settings: &mut Object) {
    let defaults = serde_json::to_value(MqttSettings::defaults("")).unwrap_or_default();
    for (name, property) in &mut settings.properties {
        let Some(default) = defaults.get(name).filter(|_| name != "client_id").cloned() else { continue };
        match property {
            RefOr::T(Schema::Object(object)) => object.default = Some(default),
            RefOr::Ref(reference) => reference.default = Some(default),
            RefOr::T(_) => {}
        }
    }
}

fn describe(property: Option<&mut RefOr<Schema>>, description: &str) {
    match property {
        Some(RefOr::T(Schema::Object(object))) => object.description = Some(description.to_owned()),
        Some(RefOr::Ref(reference)) => description.clone_into(&mut reference.description),
        _ => {}
    }
}

/// Allows `null`. For a setting, it means the same as an absent field; for a secret, it removes the stored one.
fn allow_null(property: &mut RefOr<Schema>) {
    match property {
        RefOr::T(Schema::Object(object)) => {
            if let SchemaType::Type(one) = &object.schema_type {
                object.schema_type = SchemaType::from_iter([one.clone(), Type::Null]);
            }
        }
        RefOr::Ref(reference) => {
            let null = ObjectBuilder::new().schema_type(Type::Null);
            let either = OneOfBuilder::new()
                .item(null)
                .item(Ref::new(&reference.ref_location))
                .description(Some(&reference.description))
                .default(reference.default.clone());
            *property = either.into();
        }
        RefOr::T(_) => {}
    }
}
