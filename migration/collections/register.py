"""Every collection of Rocket.Chat 3.x to 8.x by its name in MongoDB, and what is done with it. The names are `rocketchat_`
and the model's, but for the few that are older than the prefix or come with Meteor."""

from typing import Final

from migration.collections import Bytes, Copied, Left, Mapper
from migration.collections import people as p
from migration.collections import service as s
from migration.collections.files import clean as clean_upload
from migration.collections.files import upload
from migration.collections.messages import message
from migration.collections.rooms import clean as clean_room
from migration.collections.rooms import room
from router.storage.archive.shape import FILES, MESSAGES, RECORDS, ROOMS

Treatment = Copied | Left | Bytes

_RECORDS: Final[dict[str, Mapper]] = {
    "livechat_visitor": p.visitor,
    "livechat_contact": p.contact,
    "livechat_department": s.department,  # units, too
    "livechat_department_agents": s.department_agent,
    "livechat_unit": s.department,
    "livechat_unit_monitors": s.unit_monitor,
    "livechat_inquiry": s.inquiry,
    "livechat_custom_field": s.custom_field,
    "livechat_trigger": s.named,
    "livechat_tag": s.named,
    "livechat_priority": s.named,
    "omnichannel_service_level_agreements": s.named,
    "livechat_business_hours": s.hours,
    "livechat_office_hour": s.hours,  # until 3.2
    "livechat_agent_activity": s.activity,
    "livechat_page_visited": s.page,  # until 0.6
    "canned_response": s.canned_response,
    "message_read_receipt": s.receipt,  # until 4.x
    "read_receipts": s.receipt,
    "read_receipts_archive": s.receipt,
    "message_reads": s.thread_read,
    "team": s.team,
    "team_member": s.team_member,
    "roles": s.role,
    "permissions": s.role,
    "video_conference": s.conference,
    "call_history": s.call,
    "media_calls": s.call,
    "reports": s.report,
    "moderation_reports": s.report,
    "moderation_audit_logs": s.audit,
    "audit_log": s.audit,
    "calendar_event": s.named,
}

_SECRET: Final = (
    "rocketchat_settings", "rocketchat_email_inbox", "rocketchat_oauth_apps", "rocketchat_oauth_access_tokens",
    "rocketchat_oauth_auth_codes", "rocketchat_oauth_refresh_tokens", "oauth_apps", "oauth_access_tokens",
    "oauth_auth_codes", "oauth_refresh_tokens", "meteor_accounts_loginServiceConfiguration",
    "meteor_oauth_pendingCredentials", "meteor_oauth_pendingRequestTokens", "rocketchat_credential_tokens",
    "rocketchat_personal_access_tokens", "rocketchat_login_codes", "rocketchat_invites", "rocketchat_workspace_credentials",
    "rocketchat_grandfather_license", "rocketchat_webdav_accounts", "rocketchat_integrations",
    "rocketchat_integration_history", "rocketchat_apps", "rocketchat_apps_logs", "rocketchat_apps_persistence",
    "rocketchat_apps_tokens", "rocketchat_apps_packages.files", "rocketchat_apps_packages.chunks",
    "rocketchat_federation_keys", "rocketchat_server_events", "rocketchat_push_token", "_raix_push_app_tokens",
    "rocketchat__raix_push_app_tokens", "rocketchat_voip_server_configuration", "ufsTokens",
)  # fmt: skip
"""Passwords, keys and tokens, and what apps and integrations write down of them."""

_TRANSIENT: Final = (
    "rocketchat_sessions", "usersSessions", "rocketchat_users_sessions", "rocketchat_livechat_sessions",
    "rocketchat_statistics", "rocketchat_analytics", "rocketchat_nps", "rocketchat_nps_vote", "instances",
    "rocketchat_instances", "rocketchat_instance_status", "presence", "rocketchat_presence",
    "rocketchat_notification_queue", "rocketchat_omnichannel_queue", "rocketchat_omnichannel_scheduler",
    "rocketchat_livechat_external_message", "rocketchat_livechat_filter", "_raix_push_notifications", "migrations",
    "rocketchat_migrations", "rocketchat_cron", "rocketchat_cron_history", "cronHistory", "rocketchat_apps_scheduler",
    "rocketchat_import", "rocketchat_imports", "rocketchat_import_data", "rocketchat_raw_imports", "raw_imports",
    "rocketchat_export_operations", "rocketchat_user_data_files", "rocketchat_userDataFiles.files",
    "rocketchat_userDataFiles.chunks", "rocketchat_user_data_files.files", "rocketchat_user_data_files.chunks",
    "rocketchat_oembed_cache", "rocketchat_email_message_history", "rocketchat_smarsh_history",
    "rocketchat_federation_events", "rocketchat_federation_room_events", "rocketchat_federation_servers",
    "rocketchat_federation_dns_cache", "rocketchat_federation_peers", "rocketchat_matrix_bridged_rooms",
    "rocketchat_matrix_bridged_users", "rocketchat_matrix_bridged_messages", "rocketchat_pbx_events",
    "rocketchat_freeswitch_calls", "rocketchat_freeswitch_channels", "rocketchat_freeswitch_channel_events",
    "rocketchat_freeswitch_channel_event_deltas", "rocketchat_freeswitch_events", "rocketchat_media_call_channels",
    "rocketchat_media_call_channel_logs", "rocketchat_media_call_negotiations", "rocketchat_tasks",
    "oplog", "oplog.rs", "system.indexes", "system.js", "system.namespaces", "system.profile", "system.users",
    "system.version", "system.views", "system.buckets",
)  # fmt: skip

_PRESENTATION: Final = (
    "rocketchat_avatars", "rocketchat_avatars.files", "rocketchat_avatars.chunks", "avatars.files", "avatars.chunks",
    "rocketchat_custom_emoji", "rocketchat_custom_emoji.files", "rocketchat_custom_emoji.chunks", "custom_emoji",
    "custom_emoji.files", "custom_emoji.chunks", "rocketchat_custom_sounds", "rocketchat_custom_sounds.files",
    "rocketchat_custom_sounds.chunks", "custom_sounds", "custom_sounds.files", "custom_sounds.chunks",
    "rocketchat_assets", "rocketchat_assets.files", "rocketchat_assets.chunks", "assets", "assets.files",
    "assets.chunks", "rocketchat_custom_user_status", "rocketchat_banner", "rocketchat_banner_dismiss",
    "rocketchat_banners", "rocketchat_cloud_announcements", "rocketchat_modal", "rocketchat_modal_dismiss",
)  # fmt: skip

REGISTER: Final[dict[str, Treatment]] = {
    "rocketchat_room": Copied(ROOMS, room, clean_room),
    "rocketchat_message": Copied(MESSAGES, message),
    "users": Copied(RECORDS, p.user, p.clean_user),
    "rocketchat_subscription": Copied(RECORDS, s.subscription, s.clean_subscription),
    "rocketchat_uploads": Copied(FILES, upload, clean_upload),
    "rocketchat_uploads.files": Bytes("files"),
    "rocketchat_uploads.chunks": Bytes("chunks"),
    "rocketchat__trash": Left("trash"),
    **{f"rocketchat_{name}": Copied(RECORDS, mapper) for name, mapper in _RECORDS.items()},
    **dict.fromkeys(_SECRET, Left("secret")),
    **dict.fromkeys(_TRANSIENT, Left("transient")),
    **dict.fromkeys(_PRESENTATION, Left("presentation")),
}
