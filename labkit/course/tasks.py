"""The graded tasks of the series: their names, their points, and what is handed in for each.

Knows no network and no file.
"""

from dataclasses import dataclass

CODE_STUB, PROSE_STUB = "# YOUR CODE HERE", "*Your answer here.*"  # what stands in a release for a solution
NOTEBOOKS = (
    "01_training",
    "02_random_pruning",
    "03_l1_pruning",
    "04_structured_pruning",
    "05_iterative_pruning",
    "06_global_pruning",
    "07_smaller_and_faster",
    "08_pruning_frontier",
    "09_mask_detective",
)


@dataclass(frozen=True)
class Task:
    """One graded task.

    Attributes:
        name: such as ``"03-network"``; its first two characters are the notebook's number.
        title: what was asked for, in a few words.
        points: the most that can be reached.
        network: name of the saved network that is judged, or "" if a small file of answers is.
        bonus: whether its points come on top of the total.
        again: what to do if the check sees nothing done, though it was: which cells to run, and in which order.
    """

    name: str
    title: str
    points: float
    network: str = ""
    bonus: bool = False
    again: str = ""

    @property
    def notebook(self) -> str:
        """Name of the task's notebook."""
        return next(name for name in NOTEBOOKS if name[:2] == self.name[:2])


LAYER = 'a layer is network.conv1 or getattr(network, "conv1"), not its name alone'
ROUNDS = "run the cell that makes {} and the loop again (a loop whose rounds are all done does nothing more)"
TRAIN = "the network has never seen a batch: if the training is written by now, run its cell again"
RANDOM = f"if prune_at_random is written by now, run its cell and the one that makes CNN_MNIST_RND again; {LAYER}"
L1 = f"if the pruning is written by now, run the cell that makes CNN_MNIST_L1 again; {LAYER}"
STRUCTURED = f"if the pruning is written by now, run the cell that makes CNN_MNIST_STRUCT again; {LAYER}"
LOCAL = f"if prune_and_train is written by now: {ROUNDS.format('CNN_MNIST_FNC')}"
GLOBAL = "if pruned_globally is written by now, run its cell and the one that makes CNN_MNIST_GLOBAL again"
GLOBAL_ROUNDS = f"if prune_and_train is written by now: {ROUNDS.format('CNN_MNIST_GLOBAL_2')}"
SMALL = "it is still the clone, or was never trained: cut its channels, train, and run the cell again"
GOLF = "it is still the dense clone: prune it, train it, and run the cell again"
DETECTIVE = 'method_of says nothing yet, or "random" whatever it is shown: run its cell again after a change'

TASKS = {
    task.name: task
    for task in (
        Task("01-prediction", "a prediction, before the measurement", 1),
        Task("01-work", "multiply-adds of each layer", 2),
        Task("01-training", "CNN_MNIST, trained", 4, "CNN_MNIST", again=TRAIN),
        Task("02-prediction", "a prediction, before the measurement", 1),
        Task("02-mask", "a random mask by hand", 2),
        Task("02-network", "25 % of conv1, conv2, conv3 at random", 4, "CNN_MNIST_RND", again=RANDOM),
        Task("03-prediction", "a prediction, before the measurement", 1),
        Task("03-masks", "three L1 masks by hand", 3),
        Task("03-network", "25 % of conv1, conv2, conv3 by L1", 4, "CNN_MNIST_L1", again=L1),
        Task("04-prediction", "a prediction, before the measurement", 1),
        Task("04-masks", "three masks of channels by hand", 3),
        Task("04-network", "1/8 of the channels by L2 norm", 4, "CNN_MNIST_STRUCT", again=STRUCTURED),
        Task("05-prediction", "a prediction, before the measurement", 1),
        Task("05-mask", "the mask of a second round by hand", 3),
        Task("05-network", "ten rounds of 10 % L1, each with training", 5, "CNN_MNIST_FNC", again=LOCAL),
        Task("06-prediction", "a prediction, before the measurement", 1),
        Task("06-masks", "one threshold through four layers by hand", 3),
        Task("06-network", "25 % of all weights by one threshold", 4, "CNN_MNIST_GLOBAL", again=GLOBAL),
        Task(
            "06-rounds", "ten global rounds of 10 %, each with training", 5, "CNN_MNIST_GLOBAL_2", again=GLOBAL_ROUNDS
        ),
        Task("07-prediction", "a prediction, before the measurement", 1),
        Task("07-work", "multiply-adds after cutting half of the channels", 2),
        Task("07-cut", "weights of conv2 and fc without the cut channels, by hand", 3),
        Task("07-network", "a sixteenth of the multiply-adds, trained again", 4, "CNN_MNIST_SMALL", again=SMALL),
        Task("08-prediction", "a prediction, before the measurement", 1),
        Task("08-masks", "10,000 weights by LAMP scores by hand", 3),
        Task("08-golf", "at most 800 weights, trained again", 4, "CNN_MNIST_GOLF", again=GOLF),
        Task("09-detective", "a function that names the method of 20 networks", 6, bonus=True, again=DETECTIVE),
    )
}
NETWORKS = {task.network: task.name for task in TASKS.values() if task.network}
TOTAL = sum(task.points for task in TASKS.values() if not task.bonus)
