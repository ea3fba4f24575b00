"""The project's only fakes: one process that stands in for WhatsApp (Meta's and 360dialog's) and for a Rocket.Chat.

It shares no code with the product, so that its record of what it received can judge the product.
Start it with ``python -m deploy.sandbox --port 0``; it prints ``{"port": N}`` when it serves on 127.0.0.1.

WhatsApp Cloud                                       Authorization: Bearer, checked when `access_token` is set
    POST   /graph/v23.0/{number}/messages            sends and read marks
    POST   /graph/v23.0/{number}/media               multipart: {id}
    GET DELETE /graph/v23.0/{media-id}               {url, mime_type, sha256, file_size, id, messaging_product}
    GET    /whatsapp_business/attachments/?mid&ext&hash   a file's bytes, for `media_url_seconds`
    GET POST /graph/v23.0/{number}                   webhook_configuration {override_callback_uri, verify_token}
    GET POST DELETE /graph/v23.0/{waba}/subscribed_apps
    GET POST /graph/v23.0/{app}/subscriptions        token ``app_id|app_secret``
360dialog                                            D360-API-KEY, a number's `api_key`
    POST   /d360/messages | media · GET DELETE /d360/{media-id} · GET /d360/whatsapp_business/attachments/…
    GET POST /d360/v1/configs/webhook                {url, headers}
Rocket.Chat
    /rocketchat/api/apps/public/{app}/{path}         what a marketplace app is posted
    /rocketchat/api/v1/{method}                      REST: login, me, info, users.info|create, permissions.listAll,
                                                     settings/{id}, livechat/integrations.settings,
                                                     omnichannel/integrations, integrations.list|create, rooms.info,
                                                     livechat/rooms, livechat/messages.history/{rid},
                                                     livechat/room.closeByUser,
                                                     chat.sendMessage|syncMessages|react|getMessage,
                                                     rooms.media/{rid}, rooms.mediaConfirm/{rid}/{fileId}
    GET    /rocketchat/file-upload/{id}/{name}       a user's headers, or ?token= from a webhook's fileUpload
Control
    POST   /control/configure                        settings: deploy/sandbox/configuration.py
    POST   /control/patient | phone_echo             a customer writes, with `media` too · the clinic, on its phone
    POST   /control/account_event                    a template_* or account_* event
    POST   /control/post | verify                    raw bytes · Meta's handshake
    POST   /control/agent | edit | close             an agent writes, with `file` too · edits · closes the room
    GET    /control/callback/{number}                {url, app_url}: where its webhooks go now
    GET    /control/media/{id}                       the bytes WhatsApp holds
    GET    /control/rocketchat/history | upload/{id} {rid: messages}: all that was said · the bytes of a file
    POST GET DELETE /control/faults                  rules: deploy/sandbox/faults.py
    GET DELETE /control/record                       everything · forget it
    GET    /control/record/counts | {kind}?since=    kinds: graph, reads, refused, media, callbacks, forwards,
                                                     rocketchat, rest, webhooks, errors
    GET    /control/refusals                         {by_code, by_rule}
    POST   /control/reset                            as at the start

Fault targets: graph.send, graph.read, graph.media.get|download|upload|delete, graph.callbacks (360dialog's too),
rocketchat.app, rocketchat.rest.{method}, rocketchat.file, and rocketchat.webhook (fault `drop` with `share`, `seed`).
"""
