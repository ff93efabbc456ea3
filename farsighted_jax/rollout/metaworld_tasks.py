"""The 50 tasks of Meta-World: how hard the field calls them, and how to ask for them.

The package has no instructions; these are ours. Groups are those of the field's tables (Seo et al.,
"Masked World Models for Visual Control", 2022, appendix), 28 + 11 + 6 + 5.
"""

EASY, MEDIUM, HARD, VERY_HARD = "easy", "medium", "hard", "very_hard"
GROUPS = (EASY, MEDIUM, HARD, VERY_HARD)

# Task -> group, the usual instruction, two paraphrases. All 150 sentences differ.
_TABLE = {
    "assembly": (
        HARD,
        "put the ring over the peg",
        "lift the ring by its handle and drop it on the peg",
        "assemble the ring and the peg",
    ),
    "basketball": (
        MEDIUM,
        "put the ball into the basket",
        "dunk the basketball",
        "grasp the ball and let it fall through the hoop",
    ),
    "bin-picking": (
        MEDIUM,
        "move the block from the left bin into the right bin",
        "pick the block out of its bin and place it in the other one",
        "transfer the block to the other bin",
    ),
    "box-close": (
        MEDIUM,
        "put the lid on the box",
        "close the box with its lid",
        "grasp the cover and place it on the box",
    ),
    "button-press-topdown": (
        EASY,
        "press the button from above",
        "push the button down",
        "press down the button on top of the box",
    ),
    "button-press-topdown-wall": (
        EASY,
        "press the button behind the wall from above",
        "go over the wall and push the button down",
        "reach across the wall and press down the button",
    ),
    "button-press": (
        EASY,
        "press the button",
        "push the button into the box",
        "press the button on the front of the box",
    ),
    "button-press-wall": (
        EASY,
        "press the button behind the wall",
        "go around the wall and push the button",
        "reach past the wall and press the button in",
    ),
    "coffee-button": (
        EASY,
        "press the button of the coffee machine",
        "start the coffee machine",
        "push the coffee machine's button",
    ),
    "coffee-pull": (
        MEDIUM,
        "pull the mug away from the coffee machine",
        "take the mug from under the coffee machine",
        "drag the mug out of the coffee machine",
    ),
    "coffee-push": (
        MEDIUM,
        "push the mug under the coffee machine",
        "put the mug below the spout of the coffee machine",
        "slide the mug into the coffee machine",
    ),
    "dial-turn": (EASY, "turn the dial", "rotate the dial half way round", "twist the knob of the dial"),
    "disassemble": (
        VERY_HARD,
        "take the ring off the peg",
        "lift the ring from the peg by its handle",
        "pull the ring and the peg apart",
    ),
    "door-close": (EASY, "close the door", "push the door shut", "swing the open door closed"),
    "door-lock": (
        EASY,
        "lock the door",
        "turn the latch to lock the door",
        "rotate the lock of the door clockwise",
    ),
    "door-open": (EASY, "open the door", "pull the door open by its handle", "swing the closed door open"),
    "door-unlock": (
        EASY,
        "unlock the door",
        "turn the latch to unlock the door",
        "rotate the lock of the door counterclockwise",
    ),
    "drawer-close": (EASY, "close the drawer", "push the drawer shut", "slide the drawer back in"),
    "drawer-open": (EASY, "open the drawer", "pull the drawer out by its handle", "slide the drawer open"),
    "faucet-close": (EASY, "close the faucet", "turn the faucet off", "rotate the faucet's handle clockwise"),
    "faucet-open": (
        EASY,
        "open the faucet",
        "turn the faucet on",
        "rotate the faucet's handle counterclockwise",
    ),
    "hammer": (
        MEDIUM,
        "hammer the nail into the wall",
        "pick up the hammer and hit the nail",
        "drive the screw in with the hammer",
    ),
    "hand-insert": (
        HARD,
        "put the block and the hand into the hole",
        "insert the gripper into the hole in the table",
        "lower the block into the hole",
    ),
    "handle-press-side": (
        EASY,
        "press the handle down from the side",
        "push down the handle that points sideways",
        "press the sideways lever to the bottom",
    ),
    "handle-press": (
        EASY,
        "press the handle down",
        "push down the handle in front",
        "press the lever to the bottom",
    ),
    "handle-pull": (EASY, "pull the handle up", "lift the handle in front", "raise the pressed handle"),
    "handle-pull-side": (
        EASY,
        "pull the handle up from the side",
        "lift the handle that points sideways",
        "raise the sideways handle",
    ),
    "peg-insert-side": (
        MEDIUM,
        "insert the peg into the hole at the side",
        "push the peg sideways into the box",
        "grasp the peg and plug it in",
    ),
    "lever-pull": (
        EASY,
        "pull the lever up",
        "raise the lever by a quarter turn",
        "lift the lever until it stands upright",
    ),
    "peg-unplug-side": (
        EASY,
        "unplug the peg",
        "pull the peg sideways out of the box",
        "take the peg out of the hole at the side",
    ),
    "pick-out-of-hole": (
        HARD,
        "pick the block out of the hole",
        "lift the block from the hole to the goal",
        "take the block up out of the table",
    ),
    "pick-place": (
        HARD,
        "pick up the block and place it at the goal",
        "bring the block to the goal",
        "lift the block and carry it to the target",
    ),
    "pick-place-wall": (
        VERY_HARD,
        "pick up the block and place it behind the wall",
        "carry the block over the wall to the goal",
        "lift the block across the wall",
    ),
    "plate-slide-back-side": (
        EASY,
        "slide the plate out of the goal to the side",
        "drag the plate sideways out of the cabinet",
        "pull the puck out to the side",
    ),
    "plate-slide-back": (
        EASY,
        "slide the plate back out of the goal",
        "drag the plate out of the cabinet",
        "pull the puck back towards the robot",
    ),
    "plate-slide-side": (
        EASY,
        "slide the plate into the goal at the side",
        "push the plate sideways into the cabinet",
        "shove the puck in from the side",
    ),
    "plate-slide": (
        EASY,
        "slide the plate into the goal",
        "push the plate into the cabinet",
        "shove the puck straight in",
    ),
    "reach": (EASY, "reach the goal", "move the hand to the target", "bring the gripper to the marked point"),
    "reach-wall": (
        EASY,
        "reach the goal behind the wall",
        "move the hand around the wall to the target",
        "bring the gripper past the wall",
    ),
    "push-back": (
        HARD,
        "push the block back to the goal",
        "pull the block towards the robot",
        "drag the block back to the target",
    ),
    "push": (
        HARD,
        "push the block to the goal",
        "slide the block to the target",
        "shove the block across the table",
    ),
    "push-wall": (
        MEDIUM,
        "push the block around the wall to the goal",
        "slide the block past the wall",
        "shove the block behind the wall",
    ),
    "shelf-place": (
        VERY_HARD,
        "put the block on the shelf",
        "pick up the block and set it on the shelf",
        "place the block in the shelf",
    ),
    "soccer": (
        MEDIUM,
        "kick the ball into the goal",
        "push the soccer ball into the net",
        "score a goal with the ball",
    ),
    "stick-pull": (
        VERY_HARD,
        "pull the box with the stick",
        "hook the stick into the handle and drag the box",
        "use the stick to pull the thermos",
    ),
    "stick-push": (
        VERY_HARD,
        "push the box with the stick",
        "grasp the stick and shove the box to the goal",
        "use the stick to push the thermos",
    ),
    "sweep-into": (
        MEDIUM,
        "sweep the block into the hole",
        "push the block until it falls into the hole",
        "wipe the block into the opening",
    ),
    "sweep": (
        MEDIUM,
        "sweep the block off the table",
        "push the block over the edge",
        "wipe the block away to the side",
    ),
    "window-close": (EASY, "close the window", "push the window shut", "slide the window to the left"),
    "window-open": (EASY, "open the window", "push the window aside", "slide the window to the right"),
}

TASK_GROUPS = {task: row[0] for task, row in _TABLE.items()}
INSTRUCTIONS = {task: row[1:] for task, row in _TABLE.items()}
