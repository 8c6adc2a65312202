//! A picture, and how to submit one together with its event.

use reqwest::RequestBuilder;

/// A grey pixel.
pub const JPEG: &[u8] = &[
    0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 1, 0xff, 0xc0, 0, 11, 8, 0, 1, 0, 1, 1, 1, 0x11, 0, 0xff, 0xda, 0, 8, 1,
    1, 0, 0, 63, 0, 0x7f, 0xff, 0x00, 0xff, 0xd9,
];

/// Returns the request with a form as its body. A part is a name and its content.
pub fn with_form(request: RequestBuilder, parts: &[(&str, &[u8])]) -> RequestBuilder {
    let mut body = Vec::new();
    for (name, content) in parts {
        body.extend_from_slice(
            format!("--cut\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").as_bytes(),
        );
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--cut--\r\n");
    request.header("Content-Type", "multipart/form-data; boundary=cut").body(body)
}
