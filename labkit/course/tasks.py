"""The graded tasks of the series: their names, their points, and what is handed in for each.

Knows no network and no file.
"""

from dataclasses import dataclass

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
    """

    name: str
    title: str
    points: float
    network: str = ""
    bonus: bool = False

    @property
    def notebook(self) -> str:
        """Name of the task's notebook."""
        return next(name for name in NOTEBOOKS if name[:2] == self.name[:2])


TASKS = {
    task.name: task
    for task in (
        Task("01-prediction", "a prediction, before the measurement", 1),
        Task("01-work", "multiply-adds of each layer", 2),
        Task("01-training", "CNN_MNIST, trained", 4, "CNN_MNIST"),
        Task("02-prediction", "a prediction, before the measurement", 1),
        Task("02-mask", "a random mask by hand", 2),
        Task("02-network", "25 % of conv1, conv2, conv3 at random", 4, "CNN_MNIST_RND"),
        Task("03-prediction", "a prediction, before the measurement", 1),
        Task("03-masks", "three L1 masks by hand", 3),
        Task("03-network", "25 % of conv1, conv2, conv3 by L1", 4, "CNN_MNIST_L1"),
        Task("04-prediction", "a prediction, before the measurement", 1),
        Task("04-masks", "three masks of channels by hand", 3),
        Task("04-network", "1/8 of the channels by L2 norm", 4, "CNN_MNIST_STRUCT"),
        Task("05-prediction", "a prediction, before the measurement", 1),
        Task("05-mask", "the mask of a second round by hand", 3),
        Task("05-network", "ten rounds of 10 % L1, each with training", 5, "CNN_MNIST_FNC"),
        Task("06-prediction", "a prediction, before the measurement", 1),
        Task("06-masks", "one threshold through four layers by hand", 3),
        Task("06-network", "25 % of all weights by one threshold", 4, "CNN_MNIST_GLOBAL"),
        Task("06-rounds", "ten global rounds of 10 %, each with training", 5, "CNN_MNIST_GLOBAL_2"),
        Task("07-prediction", "a prediction, before the measurement", 1),
        Task("07-work", "multiply-adds after cutting half of the channels", 2),
        Task("07-cut", "weights of conv2 and fc without the cut channels, by hand", 3),
        Task("07-network", "an eighth of the multiply-adds, trained again", 4, "CNN_MNIST_SMALL"),
        Task("08-prediction", "a prediction, before the measurement", 1),
        Task("08-masks", "10,000 weights by LAMP scores by hand", 3),
        Task("08-golf", "at most 6,000 weights, trained again", 4, "CNN_MNIST_GOLF"),
        Task("09-detective", "six networks, six methods", 6, bonus=True),
    )
}
NETWORKS = {task.network: task.name for task in TASKS.values() if task.network}
TOTAL = sum(task.points for task in TASKS.values() if not task.bonus)
