"""An RTSP server for tests, by GStreamer: a camera at /camera.

Arguments: address, port, pipeline (its payloaders are pay0, pay1, …), the number of packets of
which one is lost (0: none), and perhaps user and password.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

address, port, pipeline, loss, *credentials = sys.argv[1:]
Gst.init(None)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(pipeline)
factory.set_shared(True)


def lose(pad, info, sent):
    sent[0] += 1
    return Gst.PadProbeReturn.DROP if sent[0] % int(loss) == 0 else Gst.PadProbeReturn.OK


def configure(_, media):
    payloader = media.get_element().get_by_name("pay0")
    kinds = Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST
    payloader.get_static_pad("src").add_probe(kinds, lose, [0])


if int(loss) > 0:
    factory.connect("media-configure", configure)
server = GstRtspServer.RTSPServer()
server.set_address(address)
server.set_service(port)
server.get_mount_points().add_factory("/camera", factory)
if credentials:
    user, password = credentials
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
    auth = GstRtspServer.RTSPAuth()
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    factory.add_role_from_structure(
        Gst.Structure.new_from_string(
            "viewer,media.factory.access=true,media.factory.construct=true"
        )
    )
server.attach(None)
GLib.MainLoop().run()
