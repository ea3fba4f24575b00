"""The project's only fakes: one process that stands in for WhatsApp's Graph API and for a Rocket.Chat.

It shares no code with the product, so that its record of what it received can judge the product.
Start it with ``python -m deploy.sandbox --port 0``; it prints ``{"port": N}`` when it serves on 127.0.0.1.

    /graph/v23.0/{phone_number_id}/messages          WhatsApp Cloud: sends and read marks
    /rocketchat/api/apps/public/{app}/{path}         what a marketplace app is posted
    /rocketchat/api/v1/{method}                      Rocket.Chat's REST
    POST   /control/configure                        settings: deploy/sandbox/configuration.py
    POST   /control/patient | post | verify          a customer writes · raw bytes · Meta's handshake
    POST   /control/agent | close                    an agent writes · closes the room
    POST GET DELETE /control/faults                  rules: deploy/sandbox/faults.py
    GET DELETE /control/record                       everything · forget it
    GET    /control/record/counts | {kind}?since=    kinds: graph, reads, refused, forwards, rocketchat,
                                                     rest, webhooks, errors
    POST   /control/reset                            as at the start
"""
