# Tests of the messages: limits and scanner, the public ones, those between coordinator and node.
