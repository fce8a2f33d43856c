"""What the link delivers, as the input of a turn: the same for both services, and for the simulation."""

from stockworker.adapters.mqtt import Delayed, Delivery, LinkDown, LinkItem, LinkUp, PublishRefused
from stockworker.protocol.packet import Packet
from stockworker.shell.turn import LinkChanged


def turn_input(item: LinkItem) -> Packet | LinkChanged | object | None:
    """Translate an item of the link; None if it does not concern the turn.

    A packet that the broker did not pass on comes back as its tag, which the turn attached to it.
    """
    match item:
        case Delivery(packet=packet):
            return packet
        case LinkUp():
            return LinkChanged(up=True)
        case LinkDown():
            return LinkChanged(up=False)
        case PublishRefused(packet=packet):
            return packet.tag
        case Delayed():
            return None
